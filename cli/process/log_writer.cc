#include "cli/process/log_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace sheaf {
namespace {

constexpr std::chrono::milliseconds kLastFlush{200};
constexpr int kPollMs = 20;

absl::Duration AbslTime(std::chrono::milliseconds time) {
  return absl::Milliseconds(time.count());
}

}  // namespace

struct LogWriter::Queue {
  Queue(size_t max, std::function<std::string(uint64_t)> line)
      : max_bytes(max), dropped_line(std::move(line)) {}

  const size_t max_bytes;
  const std::function<std::string(uint64_t)> dropped_line;

  absl::Mutex mutex;
  std::deque<std::string> lines ABSL_GUARDED_BY(mutex);
  size_t bytes ABSL_GUARDED_BY(mutex) = 0;
  uint64_t dropped ABSL_GUARDED_BY(mutex) = 0;
  uint64_t dropped_untold ABSL_GUARDED_BY(mutex) = 0;
  bool writing ABSL_GUARDED_BY(mutex) = false;
  bool closed ABSL_GUARDED_BY(mutex) = false;
  bool ending ABSL_GUARDED_BY(mutex) = false;
  bool ended ABSL_GUARDED_BY(mutex) = false;

  void Add(std::string line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (closed) return;
    bytes += line.size();
    lines.push_back(std::move(line));
    while (bytes > max_bytes && lines.size() > 1) {
      bytes -= lines.front().size();
      lines.pop_front();
      ++dropped;
      ++dropped_untold;
    }
  }
  bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mutex) { return ending || !lines.empty(); }
  bool IsIdle() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return ended || (lines.empty() && !writing);
  }
};

// Writes without waiting where the kind of file allows it: others share its description, so its
// mode is left alone, and pipes and terminals are opened anew.
class LogWriter::Output {
 public:
  explicit Output(int fd) : fd_(fd) {
    struct stat info = {};
    if (fstat(fd, &info) != 0) return;
    is_socket_ = S_ISSOCK(info.st_mode);
    if (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)) {
      own_ = UniqueFd(open(absl::StrFormat("/proc/self/fd/%d", fd).c_str(),
                           O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
      if (own_.valid()) fd_ = own_.get();
    }
  }

  // Tries for kPollMs; what is left of `text`.
  std::string_view Write(std::string_view text) {
    const ssize_t written = is_socket_
                                ? send(fd_, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                                : write(fd_, text.data(), text.size());
    if (written >= 0) return text.substr(static_cast<size_t>(written));
    if (errno == EINTR) return text;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return {};  // nobody will ever read it
    pollfd entry{fd_, POLLOUT, 0};
    poll(&entry, 1, kPollMs);
    return text;
  }

 private:
  int fd_;
  UniqueFd own_;
  bool is_socket_ = false;
};

void LogWriter::Run(const std::shared_ptr<Queue>& queue, int fd) {
  Output output(fd);
  for (;;) {
    std::string line;
    {
      absl::MutexLock lock(&queue->mutex);
      queue->writing = false;
      queue->mutex.Await(absl::Condition(queue.get(), &Queue::HasWork));
      if (queue->ending) break;
      if (const uint64_t untold = std::exchange(queue->dropped_untold, 0)) {
        line = queue->dropped_line(untold);
      } else {
        line = std::move(queue->lines.front());
        queue->lines.pop_front();
        queue->bytes -= line.size();
      }
      queue->writing = true;
    }
    for (std::string_view left = line; !left.empty();) {
      left = output.Write(left);
      absl::MutexLock lock(&queue->mutex);
      if (queue->ending) break;
    }
  }
  absl::MutexLock lock(&queue->mutex);
  queue->ended = true;
}

LogWriter::LogWriter(int fd, size_t max_queued_bytes,
                     std::function<std::string(uint64_t)> dropped_line)
    : queue_(std::make_shared<Queue>(max_queued_bytes, std::move(dropped_line))) {
  std::thread([queue = queue_, fd] { Run(queue, fd); }).detach();
}

LogWriter::~LogWriter() {
  Flush(kLastFlush);
  absl::MutexLock lock(&queue_->mutex);
  queue_->ending = true;
  queue_->mutex.AwaitWithTimeout(absl::Condition(&queue_->ended), AbslTime(kLastFlush));
}

void LogWriter::Write(std::string line) {
  absl::MutexLock lock(&queue_->mutex);
  queue_->Add(std::move(line));
}

void LogWriter::WriteLast(std::string line) {
  absl::MutexLock lock(&queue_->mutex);
  queue_->Add(std::move(line));
  queue_->closed = true;
}

bool LogWriter::Flush(std::chrono::milliseconds patience) {
  absl::MutexLock lock(&queue_->mutex);
  return queue_->mutex.AwaitWithTimeout(absl::Condition(queue_.get(), &Queue::IsIdle),
                                        AbslTime(patience));
}

uint64_t LogWriter::dropped_lines() const {
  absl::MutexLock lock(&queue_->mutex);
  return queue_->dropped;
}

}  // namespace sheaf

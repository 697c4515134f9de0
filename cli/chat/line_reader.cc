#include "cli/chat/line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"

namespace sheaf {

bool LineReader::TakeLine(std::string& line) {
  const size_t end = buffer_.find('\n', searched_);
  if (end == std::string::npos) {
    searched_ = buffer_.size();
    if (!ended_ || buffer_.empty()) return false;
    line = std::move(buffer_);
    buffer_.clear();
  } else {
    line = buffer_.substr(0, end);
    buffer_.erase(0, end + 1);
  }
  searched_ = 0;
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

absl::StatusOr<LineReader::Event> LineReader::Next(std::string& line) {
  while (true) {
    if (TakeLine(line)) return Event::kLine;
    if (ended_) return Event::kEnd;
    if (buffer_.size() > kMaxLineBytes) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("a line of the input has more than %d bytes", kMaxLineBytes));
    }
    pollfd entries[] = {{fd_, POLLIN, 0}, {interrupts_ ? interrupts_->fd() : -1, POLLIN, 0}};
    if (poll(entries, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return absl::UnavailableError(absl::StrFormat("the input: %s", std::strerror(errno)));
    }
    if (interrupts_ != nullptr && interrupts_->Take()) {
      buffer_.clear();
      searched_ = 0;
      return Event::kInterrupt;
    }
    if (entries[0].revents == 0) continue;
    char bytes[4096];
    const ssize_t got = read(fd_, bytes, sizeof(bytes));
    if (got < 0 && errno != EINTR) {
      return absl::UnavailableError(absl::StrFormat("the input: %s", std::strerror(errno)));
    }
    if (got == 0) ended_ = true;
    if (got > 0) buffer_.append(bytes, static_cast<size_t>(got));
  }
}

}  // namespace sheaf

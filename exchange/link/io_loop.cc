#include "exchange/link/io_loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr size_t kEventsAtOnce = 64;
constexpr IoLoop::Token kWakeToken = 0;

absl::Status SystemError(const char* what, int error) {
  return absl::ResourceExhaustedError(absl::StrFormat("%s: %s", what, std::strerror(error)));
}

}  // namespace

absl::StatusOr<std::shared_ptr<IoLoop>> IoLoop::Start(const char* thread_name) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return SystemError("epoll_create1", errno);
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return SystemError("eventfd", errno);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeToken;
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0)
    return SystemError("epoll_ctl", errno);
  std::shared_ptr<IoLoop> loop(new IoLoop(std::move(epoll), std::move(wake)));
  try {
    loop->thread_ = std::thread([raw = loop.get()] { raw->Run(); });
  } catch (const std::system_error& error) {
    return SystemError("thread", error.code().value());
  }
  pthread_setname_np(loop->thread_.native_handle(), thread_name);
  return loop;
}

IoLoop::~IoLoop() {
  if (!thread_.joinable()) return;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
}

void IoLoop::Wake() {
  const uint64_t one = 1;
  // It cannot fail but by a full counter, and then the loop is awake already.
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof(one));
}

absl::StatusOr<IoLoop::Token> IoLoop::Add(int fd, uint32_t events,
                                          std::shared_ptr<Handler> handler, TimePoint deadline) {
  absl::MutexLock lock(&mutex_);
  const Token token = ++last_token_;
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return SystemError("epoll_ctl", errno);
  entries_[token] = {fd, deadline, std::move(handler)};
  if (deadline != TimePoint::max()) {
    deadlines_.emplace(deadline, token);
    if (WakesLoop()) Wake();
  }
  return token;
}

void IoLoop::SetEvents(Token token, uint32_t events) {
  absl::MutexLock lock(&mutex_);
  const auto at = entries_.find(token);
  if (at == entries_.end()) return;
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, at->second.fd, &event);
}

void IoLoop::SetDeadline(Token token, TimePoint deadline) {
  absl::MutexLock lock(&mutex_);
  const auto at = entries_.find(token);
  if (at == entries_.end()) return;
  deadlines_.erase({at->second.deadline, token});
  at->second.deadline = deadline;
  if (deadline == TimePoint::max()) return;
  deadlines_.emplace(deadline, token);
  if (WakesLoop()) Wake();
}

void IoLoop::Remove(Token token) {
  std::shared_ptr<Handler> last;  // goes after the lock is free
  absl::MutexLock lock(&mutex_);
  const auto at = entries_.find(token);
  if (at != entries_.end()) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, at->second.fd, nullptr);
    deadlines_.erase({at->second.deadline, token});
    last = std::move(at->second.handler);
    entries_.erase(at);
  }
  if (!WakesLoop()) return;
  const auto done = [this, token]()
                        ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return running_ != token; };
  mutex_.Await(absl::Condition(&done));
}

template <typename Call>
void IoLoop::With(Token token, const Call& call) {
  std::shared_ptr<Handler> handler;
  {
    absl::MutexLock lock(&mutex_);
    const auto at = entries_.find(token);
    if (at == entries_.end()) return;  // removed since the kernel reported it
    handler = at->second.handler;
    running_ = token;
  }
  call(*handler);
  handler = nullptr;
  absl::MutexLock lock(&mutex_);
  running_ = 0;
}

int IoLoop::TimeoutMs() {
  absl::MutexLock lock(&mutex_);
  if (deadlines_.empty()) return -1;
  const auto left = deadlines_.begin()->first - std::chrono::steady_clock::now();
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::clamp<int64_t>(ms, 0, 3'600'000));
}

void IoLoop::CallDeadlines() {
  const TimePoint now = std::chrono::steady_clock::now();
  std::vector<Token> due;
  {
    absl::MutexLock lock(&mutex_);
    while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
      const Token token = deadlines_.begin()->second;
      deadlines_.erase(deadlines_.begin());
      entries_[token].deadline = TimePoint::max();
      due.push_back(token);
    }
  }
  for (const Token token : due) {
    With(token, [token](Handler& handler) { handler.OnDeadline(token); });
  }
}

void IoLoop::Run() {
  std::array<epoll_event, kEventsAtOnce> events;
  for (;;) {
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), TimeoutMs());
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<size_t>(i)];
      const Token token = event.data.u64;
      if (token == kWakeToken) {
        uint64_t rings = 0;
        [[maybe_unused]] const ssize_t got = read(wake_.get(), &rings, sizeof(rings));
        absl::MutexLock lock(&mutex_);
        if (stopping_) return;
        continue;
      }
      const uint32_t ready = event.events;
      With(token, [token, ready](Handler& handler) { handler.OnReady(token, ready); });
    }
    CallDeadlines();
  }
}

absl::StatusOr<std::shared_ptr<IoLoop>> LazyIoLoop::Get() {
  absl::MutexLock lock(&mutex_);
  if (loop_ == nullptr) {
    SHEAF_ASSIGN_OR_RETURN(loop_, IoLoop::Start(thread_name_));
  }
  return loop_;
}

}  // namespace sheaf

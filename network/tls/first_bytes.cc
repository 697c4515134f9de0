#include "network/tls/first_bytes.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace sheaf {
FirstBytes::FirstBytes(Spoken spoken)
    : spoken_(std::move(spoken)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      ending_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  SHEAF_CHECK(epoll_.valid() && ending_.valid(), "two descriptors for watching new connections");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = ending_.get();
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, ending_.get(), &event);
  thread_ = std::thread([this] { Run(); });
}

void FirstBytes::Stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  (void)!write(ending_.get(), &one, sizeof(one));
  thread_.join();
  absl::MutexLock lock(&mutex_);
  for (const auto& [socket, number] : waiting_) close(socket);
  waiting_.clear();
}

void FirstBytes::Add(int socket) {
  absl::MutexLock lock(&mutex_);
  const uint64_t number = next_number_++;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;  // what has come stays, and is not told again
  event.data.fd = socket;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket, &event) != 0) {
    close(socket);
    return;
  }
  waiting_[socket] = number;
  silent_.push_back({socket, number, std::chrono::steady_clock::now() + kPatience});
}

void FirstBytes::Ready(int socket, bool ended) {
  uint8_t bytes[kMaxClientHelloBytes];
  ssize_t got = 0;
  do {
    got = recv(socket, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN && !ended) return;
  const ClientHello hello = got > 0
                                ? ReadClientHello({bytes, static_cast<size_t>(got)})
                                : ClientHello::kUnfinished;
  if (got > 0 && hello == ClientHello::kUnfinished && !ended) return;
  {
    absl::MutexLock lock(&mutex_);
    if (waiting_.erase(socket) == 0) return;
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket, nullptr);
  }
  if (hello == ClientHello::kUnfinished) {
    close(socket);
  } else {
    spoken_(socket, hello);
  }
}

int FirstBytes::CloseSilent() {
  absl::MutexLock lock(&mutex_);
  const auto now = std::chrono::steady_clock::now();
  while (!silent_.empty()) {
    const Silent& oldest = silent_.front();
    const auto found = waiting_.find(oldest.socket);
    const bool waits = found != waiting_.end() && found->second == oldest.number;
    if (waits && oldest.until > now) break;
    if (waits) {
      waiting_.erase(found);
      close(oldest.socket);
    }
    silent_.pop_front();
  }
  if (silent_.empty()) return 1000;
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(silent_.front().until - now).count();
  return static_cast<int>(std::clamp<int64_t>(left + 1, 1, 1000));
}

void FirstBytes::Run() {
  pthread_setname_np(pthread_self(), "sheaf-first");
  epoll_event events[64];
  for (;;) {
    const int count = epoll_wait(epoll_.get(), events, 64, CloseSilent());
    for (int i = 0; i < count; ++i) {
      if (events[i].data.fd == ending_.get()) return;
      Ready(events[i].data.fd, (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    }
  }
}

}  // namespace sheaf

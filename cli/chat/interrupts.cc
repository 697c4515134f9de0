#include "cli/chat/interrupts.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/check.h"

namespace sheaf {

Interrupts::Interrupts() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  SHEAF_CHECK(fd_ >= 0, "no signalfd");
}

Interrupts::~Interrupts() { close(fd_); }

bool Interrupts::Take() {
  signalfd_siginfo info;
  return read(fd_, &info, sizeof(info)) == sizeof(info);
}

Interrupts::Watch::Watch(Interrupts& interrupts, std::function<void()> interrupted)
    : end_fd_(eventfd(0, EFD_CLOEXEC)) {
  SHEAF_CHECK(end_fd_ >= 0, "no eventfd");
  thread_ = std::thread([&interrupts, end = end_fd_, interrupted = std::move(interrupted)] {
    pollfd entries[] = {{interrupts.fd(), POLLIN, 0}, {end, POLLIN, 0}};
    while (poll(entries, 2, -1) < 0 && errno == EINTR) {
    }
    if (interrupts.Take()) interrupted();
  });
}

Interrupts::Watch::~Watch() {
  eventfd_write(end_fd_, 1);
  thread_.join();
  close(end_fd_);
}

}  // namespace sheaf

#include "exchange/shared_memory/peer_watch.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace sheaf {

absl::StatusOr<std::unique_ptr<PeerWatch>> PeerWatch::Start(std::vector<int> sockets,
                                                            OnBroken on_broken) {
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) {
    return absl::ResourceExhaustedError(absl::StrFormat("eventfd: %s", std::strerror(errno)));
  }
  return std::unique_ptr<PeerWatch>(
      new PeerWatch(std::move(stop), std::move(sockets), std::move(on_broken)));
}

PeerWatch::PeerWatch(UniqueFd stop, std::vector<int> sockets, OnBroken on_broken)
    : stop_(std::move(stop)),
      sockets_(std::move(sockets)),
      on_broken_(std::move(on_broken)),
      thread_([this] { Run(); }) {}

PeerWatch::~PeerWatch() {
  const uint64_t one = 1;
  // It cannot fail but by a full counter, and then the reader is awake already.
  [[maybe_unused]] const ssize_t written = write(stop_.get(), &one, sizeof(one));
  thread_.join();
}

void PeerWatch::Run() {
  for (;;) {
    std::vector<pollfd> descriptors{{stop_.get(), POLLIN, 0}};
    for (const int socket : sockets_) descriptors.push_back({socket, POLLIN | POLLRDHUP, 0});
    if (poll(descriptors.data(), descriptors.size(), -1) < 0) continue;  // a signal
    if (descriptors[0].revents != 0) return;
    for (size_t i = 0; i < sockets_.size(); ++i) {
      // After the handshake a peer has nothing to say here: bytes are as bad as a hang-up.
      if (descriptors[i + 1].revents == 0) continue;
      sockets_[i] = -1;  // poll passes over negative ones
      on_broken_(i);
    }
  }
}

}  // namespace sheaf

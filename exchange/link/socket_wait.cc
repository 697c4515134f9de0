#include "exchange/link/socket_wait.h"

#include <poll.h>

#include <algorithm>

namespace sheaf {
namespace {

absl::Status WaitFor(int socket, short events, TimePoint deadline) {
  for (;;) {
    const auto left = deadline - std::chrono::steady_clock::now();
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    pollfd waiting{socket, events, 0};
    // At least once, so that what is there already counts.
    if (poll(&waiting, 1, static_cast<int>(std::clamp<int64_t>(ms, 0, 3'600'000))) > 0)
      return absl::OkStatus();
    if (std::chrono::steady_clock::now() >= deadline)
      return absl::UnavailableError("no answer in time");
  }
}

}  // namespace

absl::Status WaitUntilReadable(int socket, TimePoint deadline) {
  return WaitFor(socket, POLLIN, deadline);
}

absl::Status WaitUntilWritable(int socket, TimePoint deadline) {
  return WaitFor(socket, POLLOUT, deadline);
}

}  // namespace sheaf

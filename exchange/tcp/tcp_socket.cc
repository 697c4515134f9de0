#include "exchange/tcp/tcp_socket.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/link/socket_wait.h"

namespace sheaf {
namespace {

constexpr int kBacklog = 1024;

absl::StatusOr<UniqueFd> NewSocket(int family) {
  UniqueFd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (socket.valid()) return socket;
  return absl::ResourceExhaustedError(absl::StrFormat("socket: %s", std::strerror(errno)));
}

void Set(int socket, int level, int option, int value) {
  // An option that a kernel does not know costs the comfort that it gives, no more.
  setsockopt(socket, level, option, &value, sizeof(value));
}

absl::Status Failed(const char* what, const TcpAddress& address, int error) {
  return absl::UnavailableError(
      absl::StrFormat("%s %s: %s", what, address.HostPort(), std::strerror(error)));
}

}  // namespace

absl::StatusOr<UniqueFd> ListenTcp(const std::string& host, int first_port, int last_port) {
  if (first_port < 0 || last_port < first_port || last_port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrFormat("ports %d-%d: wanted first <= last <= 65535", first_port, last_port));
  }
  absl::Status why;
  for (int port = first_port; port <= last_port; ++port) {
    SHEAF_ASSIGN_OR_RETURN(const TcpAddress address, TcpAddress::FromHost(host, port));
    SHEAF_ASSIGN_OR_RETURN(UniqueFd socket, NewSocket(address.family()));
    // A port whose last connections still linger is free; one that somebody listens on is not.
    Set(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(socket.get(), address.get(), address.bytes) == 0 &&
        listen(socket.get(), kBacklog) == 0)
      return socket;
    why = Failed("listen on", address, errno);
    if (errno != EADDRINUSE && errno != EACCES) return why;
  }
  if (first_port == last_port) return why;
  return absl::UnavailableError(absl::StrFormat("no free port of %d-%d: %s", first_port, last_port,
                                                std::string(why.message())));
}

absl::StatusOr<UniqueFd> ConnectTcp(const TcpAddress& to, const TcpAddress* source,
                                    TimePoint deadline) {
  SHEAF_ASSIGN_OR_RETURN(UniqueFd socket, NewSocket(to.family()));
  if (source != nullptr && bind(socket.get(), source->get(), source->bytes) != 0)
    return Failed("connect from", *source, errno);
  if (connect(socket.get(), to.get(), to.bytes) == 0) return socket;
  if (errno != EINPROGRESS) return Failed("connect to", to, errno);
  if (!WaitUntilWritable(socket.get(), deadline).ok()) return Failed("connect to", to, ETIMEDOUT);
  int error = 0;
  socklen_t bytes = sizeof(error);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) error = errno;
  if (error != 0) return Failed("connect to", to, error);
  return socket;
}

void SetLinkOptions(int socket, Duration dead_after) {
  const auto ms = static_cast<int>(
      std::chrono::duration_cast<std::chrono::milliseconds>(dead_after).count());
  Set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  Set(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, ms);
  // Idle: a question after a second, another each second; the user timeout ends it.
  Set(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  Set(socket, IPPROTO_TCP, TCP_KEEPIDLE, 1);
  Set(socket, IPPROTO_TCP, TCP_KEEPINTVL, 1);
  Set(socket, IPPROTO_TCP, TCP_KEEPCNT, std::max(1, ms / 1000));
}

std::string PeerName(int socket) {
  TcpAddress peer;
  peer.bytes = sizeof(peer.storage);
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&peer.storage), &peer.bytes) != 0)
    return "an unknown peer";
  return peer.HostPort();
}

}  // namespace sheaf

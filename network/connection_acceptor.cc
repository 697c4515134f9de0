#include "network/connection_acceptor.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/host_port.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr int kAcceptsAtOnce = 64;  // of one address, before the others and the end are looked at
constexpr int kPauseMs = 50;        // when not even the spare descriptor helps
constexpr int64_t kWarnEverySeconds = 10;
constexpr int kKeepAliveIdleSeconds = 60;
constexpr int kKeepAliveIntervalSeconds = 20;
constexpr int kKeepAliveProbes = 3;

bool IsShortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

// Of the one connection that would have come next.
bool IsOfAConnection(int error) {
  return error == EINTR || error == ECONNABORTED || error == EPROTO || error == EPERM ||
         error == ENETDOWN || error == ENOPROTOOPT || error == EHOSTDOWN || error == ENONET ||
         error == EHOSTUNREACH || error == EOPNOTSUPP || error == ENETUNREACH;
}

void SetInt(int socket, int level, int option, int value) {
  (void)setsockopt(socket, level, option, &value, sizeof(value));
}

void SetPort(sockaddr_storage& address, uint16_t port) {
  if (address.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
  }
}

uint16_t PortOf(int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

bool IsLoopback(const sockaddr& address) {
  if (address.sa_family == AF_INET6) {
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
  }
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
  return ntohl(v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

// Invalid, and errno says why.
UniqueFd ListeningSocket(const addrinfo& found, uint16_t port) {
  UniqueFd socket_fd(
      socket(found.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!socket_fd.valid()) return {};
  SetInt(socket_fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  sockaddr_storage address{};
  std::memcpy(&address, found.ai_addr, found.ai_addrlen);
  SetPort(address, port);
  if (bind(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), found.ai_addrlen) != 0 ||
      listen(socket_fd.get(), SOMAXCONN) != 0) {
    const int error = errno;
    socket_fd.reset();
    errno = error;
  }
  return socket_fd;
}

UniqueFd SpareDescriptor() { return UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

int64_t SteadySeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ConnectionAcceptor>> ConnectionAcceptor::Listen(
    const ConnectionAcceptorOptions& options) {
  std::unique_ptr<ConnectionAcceptor> acceptor(new ConnectionAcceptor(options));
  SHEAF_RETURN_IF_ERROR(acceptor->ListenOnAll());
  acceptor->ending_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  acceptor->spare_ = SpareDescriptor();
  if (!acceptor->ending_.valid() || !acceptor->spare_.valid()) {
    return absl::UnavailableError(
        absl::StrFormat("%s: no descriptors to listen: %s", options.name, std::strerror(errno)));
  }
  return acceptor;
}

absl::Status ConnectionAcceptor::ListenOnAll() {
  const std::string address = JoinHostPort(options_.host, options_.port);
  const auto failed = [&](const char* what, const std::string& why) {
    return absl::UnavailableError(
        absl::StrFormat("%s: cannot %s %s: %s", options_.name, what, address, why));
  };
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string host = WithoutBrackets(options_.host);
  const int code = getaddrinfo(host.c_str(), "0", &hints, &found);
  if (code != 0) return failed("resolve", gai_strerror(code));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(found, &freeaddrinfo);
  int last_error = 0;
  port_ = options_.port;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    UniqueFd socket_fd = ListeningSocket(*one, port_);
    if (!socket_fd.valid()) {
      last_error = errno;
      // A name may have addresses that this machine lacks (::1 without IPv6); others' are
      // conflicts.
      if (last_error == EADDRNOTAVAIL || last_error == EAFNOSUPPORT) continue;
      return failed("bind", std::strerror(last_error));
    }
    if (port_ == 0) port_ = PortOf(socket_fd.get());
    on_loopback_ &= IsLoopback(*one->ai_addr);
    listening_.push_back(std::move(socket_fd));
  }
  if (listening_.empty()) return failed("bind", std::strerror(last_error));
  return absl::OkStatus();
}

void ConnectionAcceptor::Start(Callbacks callbacks) {
  callbacks_ = std::move(callbacks);
  thread_ = std::thread([this] { Run(); });
}

void ConnectionAcceptor::Stop() {
  if (thread_.joinable()) {
    eventfd_write(ending_.get(), 1);
    thread_.join();
  }
  listening_.clear();
}

void ConnectionAcceptor::Run() {
  bool pause = false;
  for (;;) {
    std::vector<pollfd> entries = {{ending_.get(), POLLIN, 0}};
    if (!pause) {
      for (const UniqueFd& socket : listening_) entries.push_back({socket.get(), POLLIN, 0});
    }
    const int ready = poll(entries.data(), entries.size(), pause ? kPauseMs : -1);
    if (entries[0].revents != 0) return;
    if (ready < 0 && errno != EINTR) pause = true;  // out of memory
    if (ready <= 0) {
      if (ready == 0) pause = false;
      continue;
    }
    for (size_t i = 1; i < entries.size(); ++i) {
      if (entries[i].revents != 0 && !Accept(entries[i].fd)) pause = true;
    }
  }
}

bool ConnectionAcceptor::Accept(int listening) {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    const int socket = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket >= 0) {
      SetInt(socket, IPPROTO_TCP, TCP_NODELAY, 1);
      SetInt(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
      SetInt(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
      SetInt(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveIntervalSeconds);
      SetInt(socket, IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
      callbacks_.connected(
          socket, options_.descriptor_ceiling > 0 && socket >= options_.descriptor_ceiling);
      continue;
    }
    const int error = errno;
    if (error == EAGAIN || error == EWOULDBLOCK) return true;
    if (IsOfAConnection(error)) continue;
    Warn(error);
    if (!IsShortage(error) || !RefuseOne(listening)) return false;
  }
  return true;
}

// Somebody else may take the descriptor in between: then the connection waits.
bool ConnectionAcceptor::RefuseOne(int listening) {
  if (!spare_.valid()) spare_ = SpareDescriptor();
  if (!spare_.valid()) return false;
  spare_.reset();
  const bool refused = UniqueFd(accept4(listening, nullptr, nullptr, SOCK_CLOEXEC)).valid();
  spare_ = SpareDescriptor();
  if (refused) callbacks_.refused();
  return refused;
}

void ConnectionAcceptor::Warn(int error) {
  const int64_t now = SteadySeconds();
  if (warned_at_ != 0 && now - warned_at_ < kWarnEverySeconds) return;
  warned_at_ = now;
  spdlog::warn("{}: accept: {}; the newest connections are refused for now", options_.name,
               std::strerror(error));
}

}  // namespace sheaf

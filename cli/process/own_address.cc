#include "cli/process/own_address.h"

#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_format.h"
#include "base/host_port.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace sheaf {
namespace {

// Connecting a datagram socket asks the routing table alone.
absl::StatusOr<std::string> LocalAddressOf(const addrinfo& peer) {
  const UniqueFd socket(::socket(peer.ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid() || connect(socket.get(), peer.ai_addr, peer.ai_addrlen) != 0) {
    return absl::UnavailableError(std::strerror(errno));
  }
  sockaddr_storage own = {};
  socklen_t length = sizeof(own);
  auto* const address = reinterpret_cast<sockaddr*>(&own);
  char text[NI_MAXHOST];
  if (getsockname(socket.get(), address, &length) != 0) {
    return absl::UnavailableError(std::strerror(errno));
  }
  if (const int error = getnameinfo(address, length, text, sizeof(text), nullptr, 0,
                                    NI_NUMERICHOST)) {
    return absl::UnavailableError(gai_strerror(error));
  }
  return std::string(text);
}

}  // namespace

absl::StatusOr<std::string> OwnAddressTowards(const std::string& peer) {
  SHEAF_ASSIGN_OR_RETURN(const HostPort where, SplitHostPort(peer));
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* list = nullptr;
  if (const int error = getaddrinfo(where.host.c_str(), std::to_string(where.port).c_str(), &hints,
                                    &list)) {
    return absl::UnavailableError(
        absl::StrFormat("%s: cannot resolve: %s", peer, gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, freeaddrinfo);
  std::string why = "it has no address";
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    auto found = LocalAddressOf(*entry);
    if (found.ok()) return found;
    why = std::string(found.status().message());
  }
  return absl::UnavailableError(absl::StrFormat("%s: no way leads to it: %s", peer, why));
}

std::string AnnouncedAddress(const std::string& host, int port, const std::string& peer) {
  if (IsWildcardHost(host)) {
    if (const auto own = OwnAddressTowards(peer); own.ok()) return JoinHostPort(*own, port);
  }
  return JoinHostPort(host, port);
}

}  // namespace sheaf

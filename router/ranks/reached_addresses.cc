#include "router/ranks/reached_addresses.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/host_port.h"

namespace sheaf {

std::vector<std::string> ReachedAddresses(std::vector<std::string> addresses,
                                          const std::string& peer) {
  if (!absl::StartsWith(peer, "ipv4:") && !absl::StartsWith(peer, "ipv6:")) return addresses;
  // gRPC writes what URIs do not allow in percent.
  const auto reached = SplitHostPort(absl::StrReplaceAll(
      peer.substr(5), {{"%5B", "["}, {"%5b", "["}, {"%5D", "]"}, {"%5d", "]"}, {"%25", "%"}}));
  if (!reached.ok()) return addresses;
  for (std::string& address : addresses) {
    if (!absl::StartsWith(address, "tcp:")) continue;
    const auto listening = SplitHostPort(address.substr(4));
    if (!listening.ok() || !IsWildcardHost(listening->host)) continue;
    address = absl::StrCat("tcp:", JoinHostPort(reached->host, listening->port));
  }
  return addresses;
}

}  // namespace sheaf

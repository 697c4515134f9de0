#pragma once
// Which address of this host others reach it under.
//
// Errors     kUnavailable naming the peer: it does not resolve, or no route leads to it.
// Cost       a name lookup; no packet is sent.

#include <string>

#include "absl/status/statusor.h"

namespace sheaf {

// The address of the interface that leads to `peer` (host:port), without brackets.
absl::StatusOr<std::string> OwnAddressTowards(const std::string& peer);

// host:port to tell others who are reached like `peer`: `host` as it is, or where a server listens
// on every address (0.0.0.0, ::), the one that leads to the peer; the wildcard itself if none does.
std::string AnnouncedAddress(const std::string& host, int port, const std::string& peer);

}  // namespace sheaf

#pragma once
// "host:port" as the network writes it: IPv6 addresses in brackets. Hosts are taken with or without
// them ("::1", "[::1]") and kept without.
//
// Threads    pure.
// Errors     SplitHostPort: kInvalidArgument naming the text.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace sheaf {

struct HostPort {
  std::string host;  // without brackets
  uint16_t port = 0;
};

// "127.0.0.1:80", "[::1]:80".
std::string JoinHostPort(std::string_view host, int port);

// A port is wanted; an IPv6 address must be in brackets.
absl::StatusOr<HostPort> SplitHostPort(std::string_view text);

// "::1" for "[::1]"; any other text as it is.
std::string WithoutBrackets(std::string_view host);

// 0.0.0.0 or ::, which listen on every address and are the address of nobody.
bool IsWildcardHost(std::string_view host);

// "localhost", ::1 or an address of 127.0.0.0/8: nobody of another machine gets there. Other names
// are not looked up.
bool IsLoopbackHost(std::string_view host);

// Where a process of the same host reaches a server that listens on `host`: loopback for a
// wildcard.
std::string LocalHostOf(std::string_view host);

}  // namespace sheaf

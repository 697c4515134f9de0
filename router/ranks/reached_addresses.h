#pragma once
// Where an attention rank finds rank 0's links when rank 0 listens on every address of its host
// (0.0.0.0, ::): at the address by which the rank has reached it already.
//
// Threads    pure.

#include <string>
#include <vector>

namespace sheaf {

// `peer`: as gRPC names the other end of a call, "ipv4:10.0.0.2:50053" or
// "ipv6:%5Bfd00::2%5D:50053". In addresses "tcp:HOST:PORT" of a wildcard HOST its host takes that
// one's place; others, and all where the peer has no such form (a socket in the file system), stay
// as they are.
std::vector<std::string> ReachedAddresses(std::vector<std::string> addresses,
                                          const std::string& peer);

}  // namespace sheaf

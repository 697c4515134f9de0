#pragma once
// How two ends in one host find each other: a Unix socket in the abstract namespace (no file; it
// vanishes with its process), over which each sends the other its lane and its bell as descriptors
// with the last of its hello. Afterwards the socket carries nothing; that it breaks is how a death
// is seen.
//
//   address    "shm:HOST:NAME". HOST is one boot of one machine and one network namespace: what can
//              reach the other's socket. NAME is 128 random bits, the worker's socket.
//
// Threads    pure or on one descriptor each. Sockets do not block; the caller polls.
// Errors     kUnavailable: nobody listens or the peer is gone; kInvalidArgument: not a message of
//            this kind; kResourceExhausted: no descriptors.

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sheaf {

struct SharedMemoryAddress {
  std::string host;
  std::string name;

  std::string ToString() const;
  static absl::StatusOr<SharedMemoryAddress> Parse(const std::string& text);
  // This host, a fresh name.
  static absl::StatusOr<SharedMemoryAddress> New();
};

// "" where it cannot be told (no /proc): then no peer is on this host.
std::string HostIdentity();

absl::StatusOr<UniqueFd> ListenAt(const std::string& name);
absl::StatusOr<UniqueFd> ConnectTo(const std::string& name);

// One message: `bytes` and, unless both are -1, two descriptors.
absl::Status SendMessage(int socket, std::span<const uint8_t> bytes, int lane, int bell);

struct ReceivedMessage {
  UniqueFd lane;  // both or neither
  UniqueFd bell;
};
// Fills all of `bytes`. nullopt: not here yet. Messages of another length, or with other than 0 or
// 2 descriptors, are kInvalidArgument.
absl::StatusOr<std::optional<ReceivedMessage>> ReceiveMessage(int socket,
                                                              std::span<uint8_t> bytes);

}  // namespace sheaf

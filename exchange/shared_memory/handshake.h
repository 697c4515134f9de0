#pragma once
// How two ends in one host find each other: a Unix socket in the abstract namespace (no file; it
// vanishes with its process), over which each sends the other its lane and its doorbell as
// descriptors. Afterwards the socket carries nothing; that it breaks is how a death is seen.
//
//   address    "shm:HOST:NAME". HOST is one boot of one machine and one network namespace: what can
//              reach the other's socket. NAME is 128 random bits: a router's is its socket's, a
//              worker's is what it proves itself with. Both travel over the control plane.
//   handshake  one message each way: {magic, version, epoch, worker, NAME} and two descriptors.
//
// Threads    pure or on one descriptor each. Sockets do not block; the caller polls.
// Errors     kUnavailable: nobody listens or the peer is gone; kInvalidArgument: not a handshake;
//            kResourceExhausted: no descriptors.

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"
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

struct Handshake {
  Epoch epoch;
  WorkerId worker;   // whose link this is
  std::string name;  // of the sender's address
  UniqueFd lane;     // received ones only
  UniqueFd doorbell;
};

absl::StatusOr<UniqueFd> ListenAt(const std::string& name);
absl::StatusOr<UniqueFd> ConnectTo(const std::string& name);
// nullopt: nobody is there yet.
absl::StatusOr<std::optional<UniqueFd>> AcceptFrom(int listening);

absl::Status SendHandshake(int socket, const Handshake& handshake, int lane, int doorbell);
// nullopt: not here yet.
absl::StatusOr<std::optional<Handshake>> ReceiveHandshake(int socket);

}  // namespace sheaf

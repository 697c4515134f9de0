#pragma once
// Sockets for links over TCP: made with the options that all of them have (no delay, close on exec,
// not blocking, a dead peer is noticed), listening ones on a port of a range.
//
// Errors     kUnavailable, or kResourceExhausted without descriptors, naming the address.
// Waits      ConnectTcp until the deadline.

#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "exchange/tcp/tcp_address.h"

namespace sheaf {

// Port 0 of both: any. Else the first free one of first..last.
absl::StatusOr<UniqueFd> ListenTcp(const std::string& host, int first_port, int last_port);

// `source`: the address of this host that it shall come from; nullptr: as the routes say.
absl::StatusOr<UniqueFd> ConnectTcp(const TcpAddress& to, const TcpAddress* source,
                                    TimePoint deadline);

// A peer that acknowledges nothing for dead_after ends the connection, busy or idle.
void SetLinkOptions(int socket, Duration dead_after);

// "10.0.0.2:7001"; "an unknown peer" when it is gone already.
std::string PeerName(int socket);

}  // namespace sheaf

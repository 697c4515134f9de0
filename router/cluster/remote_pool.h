#pragma once
// A coordinator behind gRPC, at host:port: sheaf.v1.Coordinator.RouterSession.
//
// Threads    a reader a stream. Waits: a coordinator that does not answer shows up by keep-alive
//            within kept_alive; destruction cancels what is under way.

#include <string>

#include "router/cluster/pool_client.h"

namespace sheaf {

OpenPoolStream RemotePool(std::string address, Duration kept_alive = std::chrono::seconds(10));

}  // namespace sheaf

#pragma once
// A coordinator behind gRPC, at host:port: sheaf.v1.Coordinator.RouterSession.
//
// Threads    a reader a stream. Waits: a coordinator that does not answer shows up by keep-alive
//            within kept_alive; destruction cancels what is under way.

#include <memory>
#include <string>

#include "network/tls/tls_identity.h"
#include "router/cluster/pool_client.h"

namespace sheaf {

// Null `tls`: plaintext.
OpenPoolStream RemotePool(std::string address, std::shared_ptr<TlsIdentity> tls = nullptr,
                          Duration kept_alive = std::chrono::seconds(10));

}  // namespace sheaf

#pragma once
// PoolServer: the cluster listener: sheaf.v1.Coordinator and sheaf.v1.Pool on a port of their own,
// not the clients'.
//
// Ownership  borrows the coordinator. Stop(): the coordinator first ends its sessions, then the
//            port closes. Threads: gRPC's.
// Errors     kUnavailable: the port cannot be had.

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/coordinator.h"
#include "coordinator/coordinator_service.h"
#include "network/grpc_listener.h"
#include "network/tls/tls_identity.h"

namespace sheaf {

struct PoolServerOptions {
  std::string host = "127.0.0.1";  // an address, IPv6 too
  int port = 0;                    // 0 = a free one
  std::shared_ptr<TlsIdentity> tls = nullptr;  // null: plaintext, anybody who has the token joins
};

class PoolServer {
 public:
  static absl::StatusOr<std::unique_ptr<PoolServer>> Start(const PoolServerOptions& options,
                                                           Coordinator& coordinator);
  ~PoolServer();

  const std::string& address() const { return address_; }  // host:port, bound
  int port() const { return listener_->port(); }
  void Stop();

 private:
  PoolServer(Coordinator& coordinator, const std::shared_ptr<TlsIdentity>& tls);

  Coordinator& coordinator_;
  CoordinatorService sessions_;
  PoolService operators_;
  std::unique_ptr<GrpcListener> listener_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace sheaf

#pragma once
// ClusterListener: the port where workers, routers and operators reach a coordinator: a gRPC server
// with sheaf.v1.Coordinator and sheaf.v1.Pool, apart from the clients' port.
//
// Ownership  borrows the coordinator, which outlives it. Threads: gRPC's.
// Errors     Start: kUnavailable naming the address.
// Shutdown   Coordinator::Stop() first: it ends the streams; then Stop() here.

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "coordinator/coordinator_service.h"
#include "grpcpp/grpcpp.h"

namespace sheaf {

class ClusterListener {
 public:
  // `port` 0: any free one.
  static absl::StatusOr<std::unique_ptr<ClusterListener>> Start(const std::string& host, int port,
                                                                Coordinator& coordinator);
  ~ClusterListener();
  ClusterListener(const ClusterListener&) = delete;
  ClusterListener& operator=(const ClusterListener&) = delete;

  const std::string& address() const { return address_; }  // host:port
  void Stop(Duration patience);

 private:
  explicit ClusterListener(Coordinator& coordinator)
      : sessions_(coordinator), operators_(coordinator) {}

  CoordinatorService sessions_;
  PoolService operators_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace sheaf

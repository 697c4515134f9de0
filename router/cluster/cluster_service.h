#pragma once
// ClusterService: sheaf.v1.Cluster on the router's gRPC server; every stream becomes a
// WorkerSession of the controller.
//
// Ownership  borrows the controller, which outlives the server. Threads: gRPC's.
// Shutdown   ClusterController::Stop() ends the streams; then the server's Shutdown() does not wait
//            for them.

#include <grpcpp/grpcpp.h>

#include "router/cluster/cluster_controller.h"
#include "sheaf/v1/cluster.grpc.pb.h"

namespace sheaf {

class ClusterService final : public v1::Cluster::CallbackService {
 public:
  explicit ClusterService(ClusterController& controller) : controller_(controller) {}

  grpc::ServerBidiReactor<v1::WorkerMessage, v1::RouterMessage>* Session(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* GetClusterStatus(grpc::CallbackServerContext* context,
                                             const v1::GetClusterStatusRequest* request,
                                             v1::ClusterStatus* response) override;

 private:
  ClusterController& controller_;
};

}  // namespace sheaf

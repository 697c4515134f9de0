#pragma once
// sheaf.v1.Coordinator and sheaf.v1.Pool on a gRPC server: every stream becomes a session of the
// coordinator, every call a question to it.
//
// Ownership  borrow the coordinator, which outlives the server. Threads: gRPC's.
// Shutdown   Coordinator::Stop() ends the streams; then the server's Shutdown() does not wait for
//            them.
// Errors     as in pool.proto. Pool wants `authorization: Bearer TOKEN` when there is a token. With
//            TLS the caller's certificate must have a name of the role: a worker's or a router's
//            for its session, an admin's for a change, a router's or an admin's for the status;
//            else kPermissionDenied, told and counted by the identity's report.

#include <grpcpp/grpcpp.h>

#include <initializer_list>
#include <memory>
#include <utility>

#include "coordinator/coordinator.h"
#include "network/tls/tls_identity.h"
#include "sheaf/v1/pool.grpc.pb.h"

namespace sheaf {

class CoordinatorService final : public v1::Coordinator::CallbackService {
 public:
  // A null identity: plaintext.
  CoordinatorService(Coordinator& coordinator, std::shared_ptr<const TlsIdentity> tls)
      : coordinator_(coordinator), tls_(std::move(tls)) {}

  grpc::ServerBidiReactor<v1::FromWorker, v1::ToWorker>* WorkerSession(
      grpc::CallbackServerContext* context) override;
  grpc::ServerBidiReactor<v1::FromRouter, v1::ToRouter>* RouterSession(
      grpc::CallbackServerContext* context) override;

 private:
  Coordinator& coordinator_;
  const std::shared_ptr<const TlsIdentity> tls_;
};

class PoolService final : public v1::Pool::CallbackService {
 public:
  PoolService(Coordinator& coordinator, std::shared_ptr<const TlsIdentity> tls)
      : coordinator_(coordinator), tls_(std::move(tls)) {}

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetPoolStatusRequest* request,
                                      v1::PoolStatus* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;
  grpc::ServerUnaryReactor* Undrain(grpc::CallbackServerContext* context,
                                    const v1::UndrainRequest* request,
                                    v1::UndrainResponse* response) override;
  grpc::ServerUnaryReactor* SetReplicas(grpc::CallbackServerContext* context,
                                        const v1::SetReplicasRequest* request,
                                        v1::SetReplicasResponse* response) override;
  grpc::ServerUnaryReactor* Rebalance(grpc::CallbackServerContext* context,
                                      const v1::RebalanceRequest* request,
                                      v1::RebalanceResponse* response) override;

 private:
  // Role and token.
  absl::Status Admit(const grpc::CallbackServerContext& context,
                     std::initializer_list<PeerRole> roles) const;
  absl::Status CheckToken(const grpc::CallbackServerContext& context) const;

  Coordinator& coordinator_;
  const std::shared_ptr<const TlsIdentity> tls_;
};

}  // namespace sheaf

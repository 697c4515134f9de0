#include "coordinator/coordinator_service.h"

#include <string>
#include <string_view>

#include "coordinator/session_hello.h"
#include "coordinator/stream_peer.h"

namespace sheaf {
namespace {

grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext& context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

}  // namespace

grpc::ServerBidiReactor<v1::FromWorker, v1::ToWorker>* CoordinatorService::WorkerSession(
    grpc::CallbackServerContext*) {
  using Reactor = SessionReactor<v1::FromWorker, v1::ToWorker>;
  return new Reactor({[this](std::shared_ptr<WorkerPeer> peer) {
                        return coordinator_.AttachWorker(std::move(peer));
                      },
                      [this](SessionId session, v1::FromWorker message) {
                        coordinator_.OnWorkerMessage(session, std::move(message));
                      },
                      [this](SessionId session) { coordinator_.OnClosed(session); }});
}

grpc::ServerBidiReactor<v1::FromRouter, v1::ToRouter>* CoordinatorService::RouterSession(
    grpc::CallbackServerContext*) {
  using Reactor = SessionReactor<v1::FromRouter, v1::ToRouter>;
  return new Reactor({[this](std::shared_ptr<RouterPeer> peer) {
                        return coordinator_.AttachRouter(std::move(peer));
                      },
                      [this](SessionId session, v1::FromRouter message) {
                        coordinator_.OnRouterMessage(session, std::move(message));
                      },
                      [this](SessionId session) { coordinator_.OnClosed(session); }});
}

absl::Status PoolService::CheckToken(const grpc::CallbackServerContext& context) const {
  constexpr std::string_view kBearer = "Bearer ";
  std::string_view got;
  const auto found = context.client_metadata().find("authorization");
  if (found != context.client_metadata().end()) {
    const std::string_view value(found->second.data(), found->second.size());
    if (value.substr(0, kBearer.size()) == kBearer) got = value.substr(kBearer.size());
  }
  if (SameToken(coordinator_.token(), got)) return absl::OkStatus();
  return absl::UnauthenticatedError(got.empty() ? "the pool wants a token"
                                                : "the token is not the pool's");
}

grpc::ServerUnaryReactor* PoolService::GetStatus(grpc::CallbackServerContext* context,
                                                 const v1::GetPoolStatusRequest*,
                                                 v1::PoolStatus* response) {
  const absl::Status allowed = CheckToken(*context);
  if (allowed.ok()) *response = coordinator_.status();
  return Finish(*context, allowed);
}

grpc::ServerUnaryReactor* PoolService::Drain(grpc::CallbackServerContext* context,
                                             const v1::DrainRequest* request, v1::DrainResponse*) {
  absl::Status status = CheckToken(*context);
  if (status.ok()) status = coordinator_.Drain(WorkerId(request->worker_id()));
  return Finish(*context, status);
}

grpc::ServerUnaryReactor* PoolService::Undrain(grpc::CallbackServerContext* context,
                                               const v1::UndrainRequest* request,
                                               v1::UndrainResponse*) {
  absl::Status status = CheckToken(*context);
  if (status.ok()) status = coordinator_.Undrain(WorkerId(request->worker_id()));
  return Finish(*context, status);
}

grpc::ServerUnaryReactor* PoolService::SetReplicas(grpc::CallbackServerContext* context,
                                                   const v1::SetReplicasRequest* request,
                                                   v1::SetReplicasResponse*) {
  absl::Status status = CheckToken(*context);
  if (status.ok()) status = coordinator_.SetReplicas(request->replicas());
  return Finish(*context, status);
}

grpc::ServerUnaryReactor* PoolService::Rebalance(grpc::CallbackServerContext* context,
                                                 const v1::RebalanceRequest*,
                                                 v1::RebalanceResponse* response) {
  const absl::Status status = CheckToken(*context);
  if (status.ok()) response->set_moves(coordinator_.Rebalance());
  return Finish(*context, status);
}

}  // namespace sheaf

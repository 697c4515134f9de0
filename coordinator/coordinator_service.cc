#include "coordinator/coordinator_service.h"

#include <string>
#include <string_view>

#include "base/status.h"
#include "coordinator/session_hello.h"
#include "coordinator/stream_peer.h"
#include "network/tls/grpc_peer_role.h"

namespace sheaf {
namespace {

grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext& context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

// A session that ends before it begins.
template <typename From, typename To>
class RefusedSession final : public grpc::ServerBidiReactor<From, To> {
 public:
  explicit RefusedSession(const absl::Status& why) { this->Finish(ToGrpc(why)); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerBidiReactor<v1::FromWorker, v1::ToWorker>* CoordinatorService::WorkerSession(
    grpc::CallbackServerContext* context) {
  using Reactor = SessionReactor<v1::FromWorker, v1::ToWorker>;
  if (const absl::Status may = CheckPeerRole(tls_.get(), *context, {PeerRole::kWorker});
      !may.ok()) {
    return new RefusedSession<v1::FromWorker, v1::ToWorker>(may);
  }
  return new Reactor({[this](std::shared_ptr<WorkerPeer> peer) {
                        return coordinator_.AttachWorker(std::move(peer));
                      },
                      [this](SessionId session, v1::FromWorker message) {
                        coordinator_.OnWorkerMessage(session, std::move(message));
                      },
                      [this](SessionId session) { coordinator_.OnClosed(session); }});
}

grpc::ServerBidiReactor<v1::FromRouter, v1::ToRouter>* CoordinatorService::RouterSession(
    grpc::CallbackServerContext* context) {
  using Reactor = SessionReactor<v1::FromRouter, v1::ToRouter>;
  if (const absl::Status may = CheckPeerRole(tls_.get(), *context, {PeerRole::kRouter});
      !may.ok()) {
    return new RefusedSession<v1::FromRouter, v1::ToRouter>(may);
  }
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
  const absl::Status refusal = absl::UnauthenticatedError(
      got.empty() ? "the pool wants a token" : "the token is not the pool's");
  coordinator_.NoteRefusedOperator(refusal);
  return refusal;
}

absl::Status PoolService::Admit(const grpc::CallbackServerContext& context,
                                std::initializer_list<PeerRole> roles) const {
  SHEAF_RETURN_IF_ERROR(CheckPeerRole(tls_.get(), context, roles));
  return CheckToken(context);
}

grpc::ServerUnaryReactor* PoolService::GetStatus(grpc::CallbackServerContext* context,
                                                 const v1::GetPoolStatusRequest*,
                                                 v1::PoolStatus* response) {
  const absl::Status allowed = Admit(*context, {PeerRole::kRouter, PeerRole::kAdmin});
  if (allowed.ok()) *response = coordinator_.status();
  return Finish(*context, allowed);
}

grpc::ServerUnaryReactor* PoolService::Drain(grpc::CallbackServerContext* context,
                                             const v1::DrainRequest* request, v1::DrainResponse*) {
  absl::Status status = Admit(*context, {PeerRole::kAdmin});
  if (status.ok()) status = coordinator_.Drain(WorkerId(request->worker_id()));
  return Finish(*context, status);
}

grpc::ServerUnaryReactor* PoolService::Undrain(grpc::CallbackServerContext* context,
                                               const v1::UndrainRequest* request,
                                               v1::UndrainResponse*) {
  absl::Status status = Admit(*context, {PeerRole::kAdmin});
  if (status.ok()) status = coordinator_.Undrain(WorkerId(request->worker_id()));
  return Finish(*context, status);
}

grpc::ServerUnaryReactor* PoolService::SetReplicas(grpc::CallbackServerContext* context,
                                                   const v1::SetReplicasRequest* request,
                                                   v1::SetReplicasResponse*) {
  absl::Status status = Admit(*context, {PeerRole::kAdmin});
  if (status.ok()) status = coordinator_.SetReplicas(request->replicas());
  return Finish(*context, status);
}

grpc::ServerUnaryReactor* PoolService::Rebalance(grpc::CallbackServerContext* context,
                                                 const v1::RebalanceRequest*,
                                                 v1::RebalanceResponse* response) {
  const absl::Status status = Admit(*context, {PeerRole::kAdmin});
  if (status.ok()) response->set_moves(coordinator_.Rebalance());
  return Finish(*context, status);
}

}  // namespace sheaf

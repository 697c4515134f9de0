#include "router/cluster/remote_pool_status.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <utility>

#include "network/tls/grpc_credentials.h"

namespace sheaf {
namespace {

std::shared_ptr<grpc::Channel> NewChannel(const std::string& address,
                                          const std::shared_ptr<TlsIdentity>& tls) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // Who looks wants to see a coordinator that is back.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  return grpc::CreateCustomChannel(address, GrpcChannelCredentials(tls), arguments);
}

}  // namespace

struct RemotePoolStatus::Call {
  grpc::ClientContext context;
  v1::GetPoolStatusRequest request;
  v1::PoolStatus answer;
};

RemotePoolStatus::RemotePoolStatus(const std::string& address, std::string token,
                                   const Clock& clock, const std::shared_ptr<TlsIdentity>& tls)
    : token_(std::move(token)), clock_(clock), stub_(v1::Pool::NewStub(NewChannel(address, tls))) {}

RemotePoolStatus::~RemotePoolStatus() {
  absl::MutexLock lock(&mutex_);
  if (under_way_) under_way_->context.TryCancel();
  const auto over = [this]()
                        ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return under_way_ == nullptr; };
  mutex_.Await(absl::Condition(&over));
}

std::shared_ptr<const v1::PoolStatus> RemotePoolStatus::Get() {
  absl::MutexLock lock(&mutex_);
  const TimePoint now = clock_.Now();
  if (!under_way_ && (!asked_ || now - asked_at_ >= kFresh)) {
    asked_ = true;
    asked_at_ = now;
    Ask();
  }
  return last_ && now - last_at_ < kStale ? last_ : nullptr;
}

void RemotePoolStatus::Ask() {
  under_way_ = std::make_shared<Call>();
  Call& call = *under_way_;
  call.context.set_deadline(std::chrono::system_clock::now() + kTimeout);
  if (!token_.empty()) call.context.AddMetadata("authorization", "Bearer " + token_);
  stub_->async()->GetStatus(
      &call.context, &call.request, &call.answer,
      [this, kept = under_way_](grpc::Status status) { Ended(kept, status); });
}

void RemotePoolStatus::Ended(const std::shared_ptr<Call>& call, const grpc::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (status.ok()) {
    last_ = std::make_shared<const v1::PoolStatus>(std::move(call->answer));
    last_at_ = clock_.Now();
  }
  under_way_ = nullptr;
}

}  // namespace sheaf

#include "router/api/grpc/grpc_unary_call.h"

#include <chrono>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/alarm.h"
#include "router/api/grpc/grpc_deadline.h"
#include "router/api/grpc/grpc_errors.h"
#include "router/api/grpc/grpc_request_bytes.h"

namespace sheaf {
namespace {

// Holds itself until gRPC is done with it (OnDone) and everyone else has let go.
class UnaryCall final : public grpc::ServerUnaryReactor,
                        public std::enable_shared_from_this<UnaryCall> {
 public:
  static UnaryCall* Start(const ApiContext& context, ConnectionResets* resets,
                          grpc::CallbackServerContext* server, grpc::ByteBuffer* response,
                          size_t request_bytes, UnaryWork work) {
    std::shared_ptr<UnaryCall> call(
        new UnaryCall(context, resets, server, response, request_bytes));
    call->self_ = call;
    if (const auto end = call->deadline_.ForAlarm()) {
      call->alarm_.Set(*end, [weak = std::weak_ptr(call)](bool expired) {
        const auto self = weak.lock();
        if (expired && self) self->End(DeadlinePassed());
      });
    }
    std::optional<std::shared_ptr<ByteBudget::Lease>> lease = TakeLease(context, request_bytes);
    if (!lease) {
      call->End(NoRoomForRequest(context));
      return call.get();
    }
    const bool taken = context.preparation.TrySubmit(
        PreparationLane::kOrdinary,
        [call, lease = *std::move(lease), work = std::move(work)] {
          if (!call->ended()) call->End(work([&call] { return call->ended(); }));
        },
        request_bytes);
    if (!taken) {
      call->End(ApiError{absl::ResourceExhaustedError("too many requests are being prepared"),
                         {},
                         context.engine.RetryAfter()});
    }
    return call.get();
  }

  void OnCancel() override {
    if (!deadline_.IsOverAt(std::chrono::system_clock::now())) {
      metrics_.CallReset();
      if (resets_ != nullptr) resets_->OnReset(peer_);
    }
    End(ApiError{absl::CancelledError(), {}, {}});
  }
  void OnDone() override {
    alarm_.Cancel();
    preparation_.WillBeFreed(request_bytes_);
    std::shared_ptr<UnaryCall> last = std::move(self_);
  }

 private:
  UnaryCall(const ApiContext& context, ConnectionResets* resets,
            grpc::CallbackServerContext* server, grpc::ByteBuffer* response, size_t request_bytes)
      : metrics_(context.metrics),
        preparation_(context.preparation),
        resets_(resets),
        server_(server),
        peer_(server->peer()),
        deadline_(*server),
        response_(response),
        request_bytes_(request_bytes) {}

  bool ended() {
    absl::MutexLock lock(&mutex_);
    return ended_;
  }

  // The first one counts.
  void End(ApiResult<grpc::ByteBuffer> result) {
    grpc::Status status;
    {
      absl::MutexLock lock(&mutex_);
      if (std::exchange(ended_, true)) return;
      if (const auto* error = std::get_if<ApiError>(&result)) {
        status = GrpcStatusOf(*error, server_);
      } else {
        *response_ = std::get<grpc::ByteBuffer>(std::move(result));
      }
    }
    Finish(std::move(status));
  }

  RouterMetrics& metrics_;
  PreparationPool& preparation_;
  ConnectionResets* const resets_;
  grpc::CallbackServerContext* const server_;  // gRPC's, as response_ valid until OnDone
  const std::string peer_;  // once it has gone gRPC does not know it any more
  const CallDeadline deadline_;
  grpc::ByteBuffer* const response_;
  const size_t request_bytes_;
  std::shared_ptr<UnaryCall> self_;
  grpc::Alarm alarm_;

  absl::Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerUnaryReactor* RunUnary(const ApiContext& context, ConnectionResets* resets,
                                   grpc::CallbackServerContext* server,
                                   grpc::ByteBuffer* response, size_t request_bytes,
                                   UnaryWork work) {
  return UnaryCall::Start(context, resets, server, response, request_bytes, std::move(work));
}

}  // namespace sheaf

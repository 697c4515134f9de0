#include "router/api/grpc/grpc_generate_call.h"

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/alarm.h"
#include "network/write_turns.h"
#include "router/api/generation/start_request.h"
#include "router/api/grpc/grpc_answer.h"
#include "router/api/grpc/grpc_deadline.h"
#include "router/api/grpc/grpc_errors.h"
#include "router/api/grpc/grpc_messages.h"
#include "router/api/grpc/grpc_request.h"
#include "router/api/grpc/grpc_request_bytes.h"
#include "router/api/request/fairness_key.h"
#include "router/api/request/prompt/text_bounds.h"
#include "sheaf/v1/inference.pb.h"

namespace sheaf {
namespace {

// Empty: not sent.
std::string_view Metadata(const grpc::CallbackServerContext& server, const char* name) {
  const auto found = server.client_metadata().find(name);
  if (found == server.client_metadata().end()) return {};
  return {found->second.data(), found->second.size()};
}

std::vector<std::string_view> AllMetadata(const grpc::CallbackServerContext& server,
                                          const char* name) {
  std::vector<std::string_view> values;
  const auto found = server.client_metadata().equal_range(name);
  for (auto entry = found.first; entry != found.second; ++entry) {
    values.emplace_back(entry->second.data(), entry->second.size());
  }
  return values;
}

// How long one message may wait for its client: for the first byte, and then for each 16 KiB.
Duration WriteTimeout(size_t bytes) {
  return std::chrono::seconds(10 + static_cast<int64_t>(bytes >> 14));
}

// Holds itself until gRPC is done with it (OnDone) and everyone else has let go.
//
// Every event (a token, a write's end, a cancel, an alarm) only notes what it means; Advance alone
// decides, under the lock, what gRPC is told next (network/write_turns.h).
//
// A client that takes nothing keeps a write waiting for ever, and with it the call: after
// WriteTimeout it is cancelled.
class GenerateReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                              public std::enable_shared_from_this<GenerateReactor> {
 public:
  static GenerateReactor* Start(const ApiContext& context, ConnectionResets* resets,
                                grpc::CallbackServerContext* server,
                                const grpc::ByteBuffer& request) {
    std::shared_ptr<GenerateReactor> reactor(new GenerateReactor(context, resets, server));
    reactor->self_ = reactor;
    if (const auto end = reactor->deadline_.ForAlarm()) {
      reactor->alarm_.Set(*end, [weak = std::weak_ptr(reactor)](bool expired) {
        const auto self = weak.lock();
        if (expired && self) self->OnAlarm();
      });
    }
    const size_t bytes = request.Length();
    reactor->request_bytes_ = bytes;
    const auto lease = TakeLease(context, bytes);
    if (!lease) {
      reactor->Refuse(NoRoomForRequest(context));
      return reactor.get();
    }
    // The copy shares the bytes.
    reactor->Submit(PreparationLane::kOrdinary, bytes,
                    [reactor, request, lease = *lease] { reactor->Prepare(request, lease); });
    return reactor.get();
  }

  ~GenerateReactor() override { context_.metrics.ConnectionsChanged(RequestFace::kGrpc, -1); }

 private:
  GenerateReactor(const ApiContext& context, ConnectionResets* resets,
                  grpc::CallbackServerContext* server)
      : context_(context),
        resets_(resets),
        server_(server),
        peer_(server->peer()),
        deadline_(*server),
        fairness_key_(FairnessKeyOf(Metadata(*server, "x-fairness-key"),
                                    Metadata(*server, "authorization"))),
        trace_(ReadTraceContext(AllMetadata(*server, "traceparent"),
                                AllMetadata(*server, "tracestate"))),
        arrival_(context.clock.Now()) {
    context_.metrics.ConnectionsChanged(RequestFace::kGrpc, 1);
  }

  void Submit(PreparationLane lane, size_t bytes, std::function<void()> work) {
    if (context_.preparation.TrySubmit(lane, std::move(work), bytes)) return;
    Refuse({absl::ResourceExhaustedError("too many requests are being prepared"),
            {},
            context_.engine.RetryAfter()});
  }

  // On the PreparationPool. Only its bytes tell whether a request is guided, so this comes first
  // for all of them.
  void Prepare(const grpc::ByteBuffer& bytes, const std::shared_ptr<ByteBudget::Lease>& lease) {
    if (const auto outcome = gone()) return Count(*outcome);
    v1::GenerateRequest message;
    if (auto error = DecodeMessage(bytes, message)) return Refuse(*std::move(error));
    auto parsed = ParseGenerateRequest(message, MaxTextBytes({}, context_.validation()));
    if (auto* error = std::get_if<ApiError>(&parsed)) return Refuse(std::move(*error));
    ParsedRequest& request = std::get<ParsedRequest>(parsed);
    request.deadline = deadline_.ForEngine(context_.clock);
    request.fairness_key = fairness_key_;
    request.trace = trace_;
    if (!request.seed) request.seed = context_.random();
    const bool prompt_ids = message.output().prompt_token_ids();
    if (PreparationLaneOf(request) == PreparationLane::kOrdinary) return Begin(request, prompt_ids);
    Submit(PreparationLane::kGuided, bytes.Length(),
           [self = shared_from_this(), request = std::move(request), prompt_ids, lease] {
             if (const auto outcome = self->gone()) return self->Count(*outcome);
             self->Begin(request, prompt_ids);
           });
  }

  // On the PreparationPool, in the request's own lane.
  void Begin(const ParsedRequest& request, bool prompt_token_ids) {
    auto started = StartRequest(request, RequestFace::kGrpc, arrival_, context_,
                                [this] { return gone().has_value(); });
    if (const auto* error = std::get_if<ApiError>(&started)) return Fail(*error);
    const auto& value = std::get<StartedRequest>(started);
    {
      absl::MutexLock lock(&mutex_);
      call_ = value.call;
      answer_.emplace(request, value.prepared, context_.codec);
      outgoing_.push_back(PromptMessage(value.prepared, *request.seed, context_.model.names.front(),
                                        prompt_token_ids));
    }
    // Gone since: whoever noticed saw no call to abandon.
    if (const auto outcome = gone()) return value.call->Abandon(*outcome);
    value.call->SetWake([weak = weak_from_this()] {
      if (auto reactor = weak.lock()) reactor->Advance();
    });
    Advance();
  }

  // Not yet counted.
  void Refuse(const ApiError& error) {
    Count(OutcomeOf(error.status));
    Fail(error);
  }

  void Fail(const ApiError& error) {
    {
      absl::MutexLock lock(&mutex_);
      // Only before the end is the context there to take what the status adds to the trailers.
      if (!turns_.finished()) final_status_ = GrpcStatusOf(error, server_);
    }
    Advance();
  }

  void Count(RequestOutcome outcome) {
    context_.Refused(RequestFace::kGrpc, outcome, /*id=*/{}, fairness_key_, arrival_, trace_);
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      turns_.Written();
    }
    // A failed write means a lost stream.
    if (ok) {
      Advance();
    } else {
      OnCancel();
    }
  }

  void OnCancel() override {
    // gRPC cancels calls whose deadline has passed, here or at the client.
    const bool late = deadline_.IsOverAt(std::chrono::system_clock::now());
    if (!late && !reset_counted_.exchange(true)) {
      context_.metrics.CallReset();
      if (resets_ != nullptr) resets_->OnReset(peer_);
    }
    Leave(late ? RequestOutcome::kDeadline : RequestOutcome::kCancelled, grpc::Status::CANCELLED);
  }

  void OnAlarm() { Leave(RequestOutcome::kDeadline, GrpcStatusOf(DeadlinePassed(), nullptr)); }

  // What is generated has no use any more, and what waits to be sent is dropped.
  void Leave(RequestOutcome outcome, const grpc::Status& status) {
    std::shared_ptr<GenerationCall> call;
    {
      absl::MutexLock lock(&mutex_);
      if (!gone_) {
        gone_ = outcome;
        final_status_ = status;
        outgoing_.clear();
      }
      call = call_;
    }
    if (call) call->Abandon(outcome);
    Advance();
  }

  void OnDone() override {
    alarm_.Cancel();
    context_.preparation.WillBeFreed(request_bytes_);
    std::shared_ptr<GenerationCall> call;
    {
      absl::MutexLock lock(&mutex_);
      if (write_alarm_) write_alarm_->Cancel();
      call = call_;
    }
    if (call) call->Abandon(RequestOutcome::kCancelled);  // nothing, if it has ended
    std::shared_ptr<GenerateReactor> last = std::move(self_);
  }

  std::optional<RequestOutcome> gone() {
    absl::MutexLock lock(&mutex_);
    return gone_;
  }

  // Writes what there is, or finishes, if no write is under way. gRPC may call back from within, so
  // never under the lock.
  void Advance() {
    WriteTurns::Turn turn = WriteTurns::Turn::kNone;
    std::optional<grpc::Status> status;
    {
      absl::MutexLock lock(&mutex_);
      if (turns_.writing() || turns_.finished() || cancelling_) return;
      if (outgoing_.empty() && !final_status_ && call_) TakeEvents();
      turn = turns_.Next(!outgoing_.empty(), final_status_.has_value());
      if (turn == WriteTurns::Turn::kFinish) status = final_status_;
      if (turn == WriteTurns::Turn::kWrite) {
        current_ = EncodeMessage(outgoing_.front());
        outgoing_.pop_front();
        write_limit_ = std::chrono::steady_clock::now() + WriteTimeout(current_.Length());
        if (!std::exchange(write_watched_, true)) WatchWrite();
      }
    }
    if (turn == WriteTurns::Turn::kWrite) StartWrite(&current_);
    if (turn == WriteTurns::Turn::kFinish) Finish(*status);
  }

  // One alarm at a time, not one for each write: it looks at whichever is under way.
  void WatchWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto left = std::chrono::duration_cast<std::chrono::system_clock::duration>(
        write_limit_ - std::chrono::steady_clock::now());
    write_alarm_.emplace().Set(std::chrono::system_clock::now() + left,
                     [weak = weak_from_this()](bool expired) {
                       const auto self = weak.lock();
                       if (expired && self) self->OnWriteAlarm();
                     });
  }

  void OnWriteAlarm() {
    {
      absl::MutexLock lock(&mutex_);
      write_watched_ = false;
      if (!turns_.writing()) return;
      if (std::chrono::steady_clock::now() < write_limit_) {
        write_watched_ = true;
        return WatchWrite();
      }
      cancelling_ = true;
    }
    reset_counted_ = true;  // not the client's
    server_->TryCancel();   // calls back from within, so not under the lock
    {
      absl::MutexLock lock(&mutex_);
      cancelling_ = false;
    }
    Leave(RequestOutcome::kRejected, grpc::Status::CANCELLED);
  }

  void TakeEvents() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    GenerationCall::Batch batch;
    std::vector<v1::GenerateResponse> messages;
    do {
      batch = call_->Take();
      answer_->Append(batch.events, messages);
    } while (batch.more && messages.empty());
    for (auto& message : messages) outgoing_.push_back(std::move(message));
    if (batch.error) {
      final_status_ = GrpcStatusOf(*batch.error, server_);
    } else if (batch.ended) {
      final_status_ = grpc::Status::OK;
    }
    if (!batch.ended) return;
    if (const int calls = answer_->undeclared_calls()) context_.metrics.UndeclaredToolCalls(calls);
  }

  const ApiContext& context_;
  ConnectionResets* const resets_;
  grpc::CallbackServerContext* const server_;  // gRPC's, valid until OnDone
  const std::string peer_;  // once it has gone gRPC does not know it any more
  const CallDeadline deadline_;
  const std::string fairness_key_;
  const std::optional<TraceContext> trace_;
  const TimePoint arrival_;
  size_t request_bytes_ = 0;  // written before anybody else knows the call
  std::shared_ptr<GenerateReactor> self_;
  grpc::Alarm alarm_;
  std::atomic<bool> reset_counted_{false};
  grpc::ByteBuffer current_;  // the message of the write under way

  absl::Mutex mutex_;
  // Null: still in preparation, or refused.
  std::shared_ptr<GenerationCall> call_ ABSL_GUARDED_BY(mutex_);
  std::optional<GrpcAnswer> answer_ ABSL_GUARDED_BY(mutex_);  // where there is a call
  std::deque<v1::GenerateResponse> outgoing_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Status> final_status_ ABSL_GUARDED_BY(mutex_);  // after outgoing_
  // Set: nobody waits for the answer any more.
  std::optional<RequestOutcome> gone_ ABSL_GUARDED_BY(mutex_);
  WriteTurns turns_ ABSL_GUARDED_BY(mutex_);
  TimePoint write_limit_ ABSL_GUARDED_BY(mutex_);       // of the write under way
  bool write_watched_ ABSL_GUARDED_BY(mutex_) = false;  // the alarm is set
  std::optional<grpc::Alarm> write_alarm_ ABSL_GUARDED_BY(mutex_);
  // The call is being cancelled, so its end must wait: its context is in use.
  bool cancelling_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerate(const ApiContext& context,
                                                          ConnectionResets* resets,
                                                          grpc::CallbackServerContext* server,
                                                          const grpc::ByteBuffer& request) {
  return GenerateReactor::Start(context, resets, server, request);
}

}  // namespace sheaf

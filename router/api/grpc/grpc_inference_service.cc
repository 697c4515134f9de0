#include "router/api/grpc/grpc_inference_service.h"

#include <deque>
#include <mutex>
#include <utility>

#include "grpcpp/grpcpp.h"
#include "router/api/grpc/grpc_errors.h"
#include "router/api/grpc/grpc_request.h"
#include "router/api/generation/start_request.h"
#include "router/api/generation/token_service.h"
#include "sheaf/v1/inference.grpc.pb.h"

namespace sheaf {
namespace {

// A client's timer ends the call before ours does: by the way here and by what gRPC rounds up in the
// header that carries the time left. A call that ends so shortly before its deadline ran out of time.
constexpr auto kDeadlineSkew = std::chrono::milliseconds(250);

std::optional<TimePoint> DeadlineOf(const grpc::ServerContextBase& server, const Clock& clock) {
  const auto deadline = server.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return std::nullopt;
  const auto left = deadline - std::chrono::system_clock::now();
  // Without one gRPC says "infinitely far", which arrives here as some centuries.
  if (left > std::chrono::hours(24 * 365)) return std::nullopt;
  return clock.Now() + std::chrono::duration_cast<Duration>(left);
}

// One Generate call. Holds itself until gRPC is done with it (OnDone) and everyone else has let go.
class GenerateReactor final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                              public std::enable_shared_from_this<GenerateReactor> {
 public:
  static GenerateReactor* Start(const ApiContext& context, grpc::CallbackServerContext* server,
                                const v1::GenerateRequest* request) {
    std::shared_ptr<GenerateReactor> reactor(new GenerateReactor(context, server));
    reactor->self_ = reactor;
    // The message dies with the handler's caller; the copy lives as long as its preparation.
    auto parsed = std::make_shared<ParsedRequest>(ParseGenerateRequest(*request));
    parsed->deadline = DeadlineOf(*server, context.clock);
    reactor->with_token_ids_ = request->output().prompt_token_ids();
    if (!context.preparation.TrySubmit([reactor, parsed] { reactor->Prepare(*parsed); })) {
      const ApiError error{absl::ResourceExhaustedError("too many requests are being prepared"),
                           {},
                           context.engine.RetryAfter()};
      context.metrics.RequestEnded(RequestFace::kGrpc, OutcomeOf(error.status), Duration(0));
      reactor->Close(GrpcStatusOf(error, server));
    }
    return reactor.get();
  }

  ~GenerateReactor() override { context_.metrics.ConnectionsChanged(RequestFace::kGrpc, -1); }

 private:
  GenerateReactor(const ApiContext& context, grpc::CallbackServerContext* server)
      : context_(context),
        server_(server),
        deadline_(server->deadline()),
        arrival_(context.clock.Now()) {
    context_.metrics.ConnectionsChanged(RequestFace::kGrpc, 1);
  }

  // On the PreparationPool.
  void Prepare(ParsedRequest& request) {
    if (cancelled()) {
      context_.metrics.RequestEnded(RequestFace::kGrpc, GoneOutcome(),
                                    context_.clock.Now() - arrival_);
      return Close(grpc::Status::CANCELLED);
    }
    if (!request.seed) request.seed = context_.random();
    auto started = StartRequest(request, RequestFace::kGrpc, arrival_, context_);
    if (const auto* error = std::get_if<ApiError>(&started))
      return Close(GrpcStatusOf(*error, server_));
    const auto& value = std::get<StartedRequest>(started);
    {
      std::lock_guard lock(mutex_);
      call_ = value.call;
      outgoing_.push_back(PromptMessage(value.prepared, *request.seed, context_.model.names.front(),
                                        with_token_ids_));
    }
    // Cancelled since: OnCancel saw no call to abandon.
    if (cancelled()) {
      AbandonCall();
      return Close(grpc::Status::CANCELLED);
    }
    value.call->SetWake([weak = weak_from_this()] {
      if (auto reactor = weak.lock()) reactor->Pump();
    });
    Pump();
  }

  // Writes what there is, if no write is under way. gRPC may call back from within, so never under
  // the lock.
  void Pump() {
    std::optional<grpc::Status> status;
    {
      std::lock_guard lock(mutex_);
      if (writing_ || closed_ || !call_) return;
      if (outgoing_.empty() && !final_status_) {
        GenerationCall::Batch batch = call_->Take();
        std::vector<v1::GenerateResponse> messages;
        AppendMessages(std::move(batch.events), context_.codec, messages);
        for (auto& message : messages) outgoing_.push_back(std::move(message));
        if (batch.error) {
          final_status_ = GrpcStatusOf(*batch.error, server_);
        } else if (batch.ended) {
          final_status_ = grpc::Status::OK;
        }
      }
      if (!outgoing_.empty()) {
        writing_ = true;
        current_ = std::move(outgoing_.front());
        outgoing_.pop_front();
      } else if (final_status_) {
        status = final_status_;
      } else {
        return;
      }
    }
    if (status) {
      Close(*status);
    } else {
      StartWrite(&current_);
    }
  }

  void OnWriteDone(bool ok) override {
    bool over = false;
    {
      std::lock_guard lock(mutex_);
      writing_ = false;
      over = !ok || cancelled_;
    }
    if (!over) return Pump();
    AbandonCall();
    Close(grpc::Status::CANCELLED);
  }

  void OnCancel() override {
    bool close = false;
    {
      std::lock_guard lock(mutex_);
      cancelled_ = true;
      // Else the preparation, or the end of the write, closes.
      close = call_ && !writing_;
    }
    AbandonCall();
    if (close) Close(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    AbandonCall();
    std::shared_ptr<GenerateReactor> last = std::move(self_);
  }

  bool cancelled() {
    std::lock_guard lock(mutex_);
    return cancelled_;
  }

  void AbandonCall() {
    std::shared_ptr<GenerationCall> call;
    {
      std::lock_guard lock(mutex_);
      call = call_;
    }
    if (call) call->Abandon(GoneOutcome());
  }

  // gRPC cancels calls whose deadline has passed, here or at the client.
  RequestOutcome GoneOutcome() const {
    return deadline_ <= std::chrono::system_clock::now() + kDeadlineSkew
               ? RequestOutcome::kDeadline
               : RequestOutcome::kCancelled;
  }

  void Close(const grpc::Status& status) {
    {
      std::lock_guard lock(mutex_);
      if (std::exchange(closed_, true)) return;
    }
    Finish(status);
  }

  const ApiContext& context_;
  grpc::CallbackServerContext* const server_;  // gRPC's, valid until OnDone
  const std::chrono::system_clock::time_point deadline_;
  const TimePoint arrival_;
  std::shared_ptr<GenerateReactor> self_;
  bool with_token_ids_ = false;
  v1::GenerateResponse current_;  // the message of the write under way

  std::mutex mutex_;
  // Guarded by mutex_.
  std::shared_ptr<GenerationCall> call_;
  std::deque<v1::GenerateResponse> outgoing_;
  std::optional<grpc::Status> final_status_;  // after outgoing_
  bool writing_ = false;
  bool cancelled_ = false;
  bool closed_ = false;
};

class InferenceService final : public v1::Inference::CallbackService {
 public:
  explicit InferenceService(const ApiContext& context) : context_(context) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* server, const v1::GenerateRequest* request) override {
    return GenerateReactor::Start(context_, server, request);
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* server,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override {
    return Run(server, [this, request, response]() -> std::optional<ApiError> {
      auto tokens = TokenizeInput(ParseTokenizeRequest(*request), context_);
      if (auto* error = std::get_if<ApiError>(&tokens)) return std::move(*error);
      const auto& ids = std::get<std::vector<TokenId>>(tokens);
      response->mutable_token_ids()->Add(ids.begin(), ids.end());
      response->set_max_model_len(static_cast<uint32_t>(context_.engine.max_model_len()));
      return std::nullopt;
    });
  }

  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* server,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override {
    return Run(server, [this, request, response]() -> std::optional<ApiError> {
      const std::vector<int64_t> tokens(request->token_ids().begin(), request->token_ids().end());
      auto text =
          DetokenizeInput(ModelOf(*request), tokens, request->skip_special_tokens(), context_);
      if (auto* error = std::get_if<ApiError>(&text)) return std::move(*error);
      response->set_text(std::get<std::string>(std::move(text)));
      return std::nullopt;
    });
  }

  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* server,
                                         const v1::GetModelInfoRequest* request,
                                         v1::GetModelInfoResponse* response) override {
    grpc::ServerUnaryReactor* reactor = server->DefaultReactor();
    if (const auto error = CheckModelName(ModelOf(*request), context_.model)) {
      reactor->Finish(GrpcStatusOf(*error, server));
      return reactor;
    }
    const ModelConfig& config = context_.model.config;
    for (const std::string& name : context_.model.names) response->add_served_names(name);
    response->set_model_type(config.model_type);
    response->set_vocab_size(static_cast<uint32_t>(config.vocab_size));
    response->set_max_model_len(static_cast<uint32_t>(context_.engine.max_model_len()));
    response->mutable_eos_token_ids()->Add(config.eos_token_ids.begin(),
                                           config.eos_token_ids.end());
    response->set_max_logprobs(static_cast<int32_t>(context_.limits.max_logprobs));
    response->set_num_layers(static_cast<uint32_t>(config.num_layers));
    response->set_num_experts(static_cast<uint32_t>(config.num_experts));
    response->set_experts_per_token(static_cast<uint32_t>(config.experts_per_token));
    response->set_ready(context_.engine.ready());
    response->set_server_version(context_.model.server_version);
    response->set_chat_supported(context_.codec.has_chat_template());
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  template <typename Message>
  static std::optional<std::string> ModelOf(const Message& message) {
    if (!message.has_model()) return std::nullopt;
    return message.model();
  }

  // Runs `work` on the pool and ends the call with its result. Request and response live until
  // Finish.
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* server,
                                std::function<std::optional<ApiError>()> work) {
    grpc::ServerUnaryReactor* reactor = server->DefaultReactor();
    const bool taken = context_.preparation.TrySubmit([reactor, server, work = std::move(work)] {
      const auto error = work();
      reactor->Finish(error ? GrpcStatusOf(*error, server) : grpc::Status::OK);
    });
    if (!taken) {
      reactor->Finish(
          GrpcStatusOf({absl::ResourceExhaustedError("too many requests are being prepared"),
                        {},
                        context_.engine.RetryAfter()},
                       server));
    }
    return reactor;
  }

  const ApiContext& context_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInferenceService(const ApiContext& context) {
  return std::make_unique<InferenceService>(context);
}

}  // namespace sheaf

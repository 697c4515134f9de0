#include "router/api/grpc/grpc_inference_service.h"

#include <utility>

#include "grpcpp/grpcpp.h"
#include "router/api/generation/token_service.h"
#include "router/api/grpc/grpc_errors.h"
#include "router/api/grpc/grpc_generate_call.h"
#include "router/api/grpc/grpc_messages.h"
#include "router/api/grpc/grpc_request.h"
#include "router/api/grpc/grpc_unary_call.h"
#include "router/api/request/prompt/text_bounds.h"
#include "sheaf/v1/inference.grpc.pb.h"

namespace sheaf {
namespace {

using grpc::ByteBuffer;

template <typename Message>
std::optional<std::string> ModelOf(const Message& message) {
  if (!message.has_model()) return std::nullopt;
  return message.model();
}

ApiResult<ByteBuffer> Tokenize(const ApiContext& context, const ByteBuffer& request,
                               const ClientLeft& client_left) {
  v1::TokenizeRequest message;
  if (auto error = DecodeMessage(request, message)) return *std::move(error);
  auto parsed = ParseTokenizeRequest(message, MaxTextBytes({}, context.validation()));
  if (auto* error = std::get_if<ApiError>(&parsed)) return std::move(*error);
  auto tokens = TokenizeInput(std::get<ParsedRequest>(parsed), context, client_left);
  if (auto* error = std::get_if<ApiError>(&tokens)) return std::move(*error);
  const auto& ids = std::get<std::vector<TokenId>>(tokens);
  v1::TokenizeResponse response;
  response.mutable_token_ids()->Add(ids.begin(), ids.end());
  response.set_max_model_len(static_cast<uint32_t>(context.engine.max_model_len()));
  return EncodeMessage(response);
}

ApiResult<ByteBuffer> Detokenize(const ApiContext& context, const ByteBuffer& request,
                                 const ClientLeft&) {
  v1::DetokenizeRequest message;
  if (auto error = DecodeMessage(request, message)) return *std::move(error);
  const std::vector<int64_t> tokens(message.token_ids().begin(), message.token_ids().end());
  auto text = DetokenizeInput(ModelOf(message), tokens, message.skip_special_tokens(), context);
  if (auto* error = std::get_if<ApiError>(&text)) return std::move(*error);
  v1::DetokenizeResponse response;
  response.set_text(std::get<std::string>(std::move(text)));
  return EncodeMessage(response);
}

ApiResult<ByteBuffer> GetModelInfo(const ApiContext& context, const ByteBuffer& request) {
  v1::GetModelInfoRequest message;
  if (auto error = DecodeMessage(request, message)) return *std::move(error);
  if (auto error = CheckModelName(ModelOf(message), context.model)) return *std::move(error);
  const ModelConfig& config = context.model.config;
  v1::GetModelInfoResponse response;
  for (const std::string& name : context.model.names) response.add_served_names(name);
  response.set_model_type(config.model_type);
  response.set_vocab_size(static_cast<uint32_t>(config.vocab_size));
  response.set_max_model_len(static_cast<uint32_t>(context.engine.max_model_len()));
  response.mutable_eos_token_ids()->Add(config.eos_token_ids.begin(), config.eos_token_ids.end());
  response.set_max_logprobs(static_cast<int32_t>(context.limits.max_logprobs));
  response.set_num_layers(static_cast<uint32_t>(config.num_layers));
  response.set_num_experts(static_cast<uint32_t>(config.num_experts));
  response.set_experts_per_token(static_cast<uint32_t>(config.experts_per_token));
  response.set_ready(context.engine.ready());
  response.set_server_version(context.model.server_version);
  response.set_chat_supported(context.codec.has_chat_template());
  response.set_tool_call_parser(TagFormatName(context.codec.output_format().tools));
  response.set_reasoning_parser(TagFormatName(context.codec.output_format().reasoning));
  return EncodeMessage(response);
}

ApiResult<ByteBuffer> ResetPrefixCache(const ApiContext& context, const ByteBuffer& request) {
  v1::ResetPrefixCacheRequest message;
  if (auto error = DecodeMessage(request, message)) return *std::move(error);
  context.engine.ResetPrefixCache();
  return EncodeMessage(v1::ResetPrefixCacheResponse());
}

// Of methods that are instant: not through the pool, because they are asked for while it is full.
grpc::ServerUnaryReactor* AnswerAtOnce(grpc::CallbackServerContext* server,
                                       ApiResult<ByteBuffer> answer, ByteBuffer* response) {
  grpc::ServerUnaryReactor* reactor = server->DefaultReactor();
  if (const auto* error = std::get_if<ApiError>(&answer)) {
    reactor->Finish(GrpcStatusOf(*error, server));
  } else {
    *response = std::get<ByteBuffer>(std::move(answer));
    reactor->Finish(grpc::Status::OK);
  }
  return reactor;
}

template <typename BaseService>
using WithRawMethods = v1::Inference::WithRawCallbackMethod_Generate<
    v1::Inference::WithRawCallbackMethod_Tokenize<v1::Inference::WithRawCallbackMethod_Detokenize<
        v1::Inference::WithRawCallbackMethod_GetModelInfo<
            v1::Inference::WithRawCallbackMethod_ResetPrefixCache<BaseService>>>>>;

class InferenceService final : public WithRawMethods<v1::Inference::Service> {
 public:
  InferenceService(const ApiContext& context, ConnectionResets* resets)
      : context_(context), resets_(resets) {}

  grpc::ServerWriteReactor<ByteBuffer>* Generate(grpc::CallbackServerContext* server,
                                                 const ByteBuffer* request) override {
    return StartGenerate(context_, resets_, server, *request);
  }

  // The copies of `request` share its bytes.
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* server, const ByteBuffer* request,
                                     ByteBuffer* response) override {
    return RunUnary(context_, resets_, server, response, request->Length(),
                    [this, bytes = *request](const ClientLeft& client_left) {
                      return sheaf::Tokenize(context_, bytes, client_left);
                    });
  }

  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* server,
                                       const ByteBuffer* request, ByteBuffer* response) override {
    return RunUnary(context_, resets_, server, response, request->Length(),
                    [this, bytes = *request](const ClientLeft& client_left) {
                      return sheaf::Detokenize(context_, bytes, client_left);
                    });
  }

  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* server,
                                         const ByteBuffer* request, ByteBuffer* response) override {
    return AnswerAtOnce(server, sheaf::GetModelInfo(context_, *request), response);
  }

  grpc::ServerUnaryReactor* ResetPrefixCache(grpc::CallbackServerContext* server,
                                             const ByteBuffer* request,
                                             ByteBuffer* response) override {
    return AnswerAtOnce(server, sheaf::ResetPrefixCache(context_, *request), response);
  }

 private:
  const ApiContext& context_;
  ConnectionResets* const resets_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInferenceService(const ApiContext& context,
                                                    ConnectionResets* resets) {
  return std::make_unique<InferenceService>(context, resets);
}

}  // namespace sheaf

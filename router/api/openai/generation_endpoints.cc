// POST /v1/completions and /v1/chat/completions.
#include <memory>
#include <utility>

#include "router/api/generation/start_request.h"
#include "router/api/http/http_errors.h"
#include "router/api/openai/generation_reply.h"
#include "router/api/openai/openai_endpoints.h"
#include "router/api/openai/openai_request.h"
#include "router/api/openai/unknown_fields.h"

namespace sheaf {
namespace {

enum class Kind { kCompletion, kChat };

HttpFinalReply Start(Kind kind, AnswerOptions options, TimePoint arrival,
                     const ApiContext& context, const ClientLeft& client_left) {
  auto started =
      StartRequest(options.parsed.request, RequestFace::kHttp, arrival, context, client_left);
  if (const auto* error = std::get_if<ApiError>(&started)) return ErrorResponse(*error);
  // The engine has them; an answer does not.
  options.parsed.request.prompts.clear();
  options.parsed.request.chat.reset();
  auto make = kind == Kind::kChat ? MakeChatReply : MakeCompletionReply;
  return make(context, std::move(options), std::get<StartedRequest>(std::move(started)));
}

HttpReply Answer(Kind kind, HttpRequest& http, const ApiContext& context,
                 UnknownFields& unknown) {
  auto body = kind == Kind::kChat ? ParseChatBody(http.body) : ParseCompletionBody(http.body);
  if (const auto* error = std::get_if<ApiError>(&body)) {
    context.Refused(RequestFace::kHttp, OutcomeOf(error->status), http.request_id,
                    http.fairness_key, http.arrival, http.trace);
    return ErrorResponse(*error);
  }
  const size_t bytes = http.body.size();
  http.body = std::string();  // all of it is in `body` now
  AnswerOptions options;
  options.parsed = std::get<OpenAiRequest>(std::move(body));
  ParsedRequest& request = options.parsed.request;
  request.fairness_key = http.fairness_key;
  request.trace = http.trace;
  unknown.Count(http.path, options.parsed.unknown_fields);
  options.id = (kind == Kind::kChat ? "chatcmpl-" : "cmpl-") + http.request_id;
  if (!request.request_id) request.request_id = options.id;
  request.response_id = options.id;
  options.object = kind == Kind::kCompletion ? "text_completion"
                   : options.parsed.stream   ? "chat.completion.chunk"
                                             : "chat.completion";
  options.created_unix_seconds = context.unix_seconds();
  options.model = context.model.names.front();
  options.settings = context.settings;
  if (request.chat) options.include_reasoning = request.chat->include_reasoning;

  if (PreparationLaneOf(request) == PreparationLane::kGuided) {
    return GuidedWork{[kind, options = std::move(options), arrival = http.arrival, &context,
                       left = http.client_left, lease = http.lease]() mutable {
                        return Start(kind, std::move(options), arrival, context, left);
                      },
                      bytes};
  }
  return ToReply(Start(kind, std::move(options), http.arrival, context, http.client_left));
}

}  // namespace

std::vector<HttpRoute> GenerationRoutes(const ApiContext& context) {
  const auto unknown = std::make_shared<UnknownFields>();
  const auto handler = [&context, unknown](Kind kind) {
    return [&context, unknown, kind](HttpRequest& http) {
      return Answer(kind, http, context, *unknown);
    };
  };
  return {{"POST", "/v1/completions", false, handler(Kind::kCompletion)},
          {"POST", "/v1/chat/completions", false, handler(Kind::kChat)}};
}

}  // namespace sheaf

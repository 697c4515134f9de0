// POST /v1/chat/completions/render and /v1/completions/render: what a request would run, without
// running it.
#include <utility>

#include "router/api/generation/start_request.h"
#include "router/api/http/http_errors.h"
#include "router/api/openai/openai_endpoints.h"
#include "router/api/openai/openai_request.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

Json SamplingJson(const GenerationRequest& choice) {
  const kernels::SamplingParams& sampling = choice.sampling;
  return {{"temperature", sampling.temperature},
          {"top_p", sampling.top_p},
          {"top_k", sampling.top_k},
          {"min_p", sampling.min_p},
          {"repetition_penalty", sampling.repetition_penalty},
          {"frequency_penalty", sampling.frequency_penalty},
          {"presence_penalty", sampling.presence_penalty},
          {"seed", sampling.seed},
          {"max_tokens", choice.stop.max_tokens},
          {"min_tokens", choice.stop.min_tokens},
          {"stop", choice.stop.stop_strings},
          {"stop_token_ids", choice.stop.stop_token_ids},
          {"ignore_eos", choice.stop.ignore_eos}};
}

HttpResponse Render(const ParsedRequest& parsed, const ApiContext& context,
                    const ClientLeft& client_left) {
  const auto prepared = PrepareRequest(parsed, context.validation(client_left));
  if (const auto* error = std::get_if<ApiError>(&prepared)) return ErrorResponse(*error);
  const auto& request = std::get<PreparedRequest>(prepared);
  Json prompts = Json::array();
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    const PreparedPrompt& prompt = request.prompts[i];
    prompts.push_back(
        {{"prompt", prompt.text},
         {"token_ids", prompt.tokens},
         {"sampling_params", SamplingJson(request.choices[i * static_cast<size_t>(request.n)])}});
  }
  Json answer = {{"request_id", request.request_id}, {"model", context.model.names.front()}};
  if (prompts.size() == 1) {
    answer.update(prompts.front());
  } else {
    answer["prompts"] = std::move(prompts);
  }
  return HttpResponse{200, "application/json", JsonText(answer), {}};
}

HttpReply Answer(ApiResult<OpenAiRequest> body, HttpRequest& http, const ApiContext& context) {
  if (const auto* error = std::get_if<ApiError>(&body)) return ErrorResponse(*error);
  ParsedRequest request = std::get<OpenAiRequest>(std::move(body)).request;
  if (PreparationLaneOf(request) == PreparationLane::kGuided) {
    return GuidedWork{[request = std::move(request), &context, left = http.client_left,
                       lease = http.lease]() -> HttpFinalReply {
                        return Render(request, context, left);
                      },
                      http.body.size()};
  }
  return Render(request, context, http.client_left);
}

}  // namespace

std::vector<HttpRoute> RenderRoutes(const ApiContext& context) {
  return {
      {"POST", "/v1/chat/completions/render", false,
       [&context](HttpRequest& http) { return Answer(ParseChatBody(http.body), http, context); }},
      {"POST", "/v1/completions/render", false, [&context](HttpRequest& http) {
         return Answer(ParseCompletionBody(http.body), http, context);
       }}};
}

}  // namespace sheaf

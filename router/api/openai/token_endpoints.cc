// POST /tokenize and /detokenize.
#include <utility>

#include "router/api/generation/token_service.h"
#include "router/api/http/http_errors.h"
#include "router/api/openai/openai_endpoints.h"
#include "router/api/openai/openai_request.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

HttpReply TokenizeAnswer(const HttpRequest& http, const ApiContext& context) {
  auto body = ParseTokenizeBody(http.body);
  if (const auto* error = std::get_if<ApiError>(&body)) return ErrorResponse(*error);
  const TokenizeBody& wanted = std::get<TokenizeBody>(body);
  auto tokens = TokenizeInput(wanted.request, context, http.client_left);
  if (const auto* error = std::get_if<ApiError>(&tokens)) return ErrorResponse(*error);
  const auto& ids = std::get<std::vector<TokenId>>(tokens);
  Json answer = {{"count", ids.size()},
                 {"max_model_len", context.engine.max_model_len()},
                 {"tokens", ids},
                 {"token_strs", nullptr}};
  if (wanted.return_token_strs) {
    Json& texts = answer["token_strs"] = Json::array();
    for (const TokenId id : ids) texts.push_back(context.codec.TokenText(id));
  }
  return HttpResponse{200, "application/json", JsonText(answer), {}};
}

HttpReply DetokenizeAnswer(const HttpRequest& http, const ApiContext& context) {
  auto body = ParseDetokenizeBody(http.body);
  if (const auto* error = std::get_if<ApiError>(&body)) return ErrorResponse(*error);
  const DetokenizeBody& wanted = std::get<DetokenizeBody>(body);
  auto text = DetokenizeInput(wanted.model, wanted.tokens, /*skip_special_tokens=*/false, context);
  if (const auto* error = std::get_if<ApiError>(&text)) return ErrorResponse(*error);
  return HttpResponse{
      200, "application/json", JsonText({{"prompt", std::get<std::string>(text)}}), {}};
}

}  // namespace

std::vector<HttpRoute> TokenRoutes(const ApiContext& context) {
  return {{"POST", "/tokenize", false,
           [&context](const HttpRequest& http) { return TokenizeAnswer(http, context); }},
          {"POST", "/detokenize", false,
           [&context](const HttpRequest& http) { return DetokenizeAnswer(http, context); }}};
}

}  // namespace sheaf

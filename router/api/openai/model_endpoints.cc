// GET /v1/models and /v1/models/{id}.
#include "router/api/http/http_errors.h"
#include "router/api/openai/openai_endpoints.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

HttpResponse Ok(const Json& answer) { return {200, "application/json", JsonText(answer), {}}; }

Json ModelJson(const std::string& name, const ApiContext& context) {
  return {{"id", name},
          {"object", "model"},
          {"created", context.model.created_unix_seconds},
          {"owned_by", "sheaf"},
          {"root", context.model.names.front()},
          {"parent", nullptr},
          {"max_model_len", context.engine.max_model_len()}};
}

HttpReply ModelList(const ApiContext& context) {
  Json list = Json::array();
  for (const std::string& name : context.model.names) list.push_back(ModelJson(name, context));
  return Ok({{"object", "list"}, {"data", std::move(list)}});
}

HttpReply OneModel(const HttpRequest& http, const ApiContext& context) {
  const std::string name = http.path.substr(std::string("/v1/models/").size());
  if (const auto error = CheckModelName(name, context.model)) return ErrorResponse(*error);
  return Ok(ModelJson(name, context));
}

}  // namespace

std::vector<HttpRoute> ModelRoutes(const ApiContext& context) {
  return {
      {"GET", "/v1/models", true, [&context](const HttpRequest&) { return ModelList(context); }},
      {"GET", "/v1/models/*", true,
       [&context](const HttpRequest& http) { return OneModel(http, context); }}};
}

}  // namespace sheaf

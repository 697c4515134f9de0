// What is served and how it is: models, health, version, metrics.
#include <algorithm>

#include "prometheus/text_serializer.h"
#include "router/api/http_endpoints.h"
#include "router/api/http_errors.h"
#include "router/api/json_fields.h"

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

HttpReply Health(const ApiContext& context) {
  return HttpResponse{context.engine.ready() ? 200 : 503, "text/plain", "", {}};
}

}  // namespace

std::vector<HttpRoute> ServerRoutes(const ApiContext& context,
                                    const prometheus::Collectable& metrics) {
  const HttpHandler health = [&context](const HttpRequest&) { return Health(context); };
  return {
      {"GET", "/health", true, health},
      {"GET", "/ping", true, health},
      {"POST", "/ping", true, health},
      {"GET", "/v1/models", true, [&context](const HttpRequest&) { return ModelList(context); }},
      {"GET", "/v1/models/*", true,
       [&context](const HttpRequest& http) { return OneModel(http, context); }},
      {"GET", "/version", true,
       [&context](const HttpRequest&) {
         return HttpReply(Ok({{"version", context.model.server_version}}));
       }},
      {"GET", "/metrics", true, [&metrics](const HttpRequest&) {
         return HttpReply(HttpResponse{200,
                                       "text/plain; version=0.0.4; charset=utf-8",
                                       prometheus::TextSerializer().Serialize(metrics.Collect()),
                                       {}});
       }}};
}

HttpRouter MakeHttpRouter(const ApiContext& context, const prometheus::Collectable& metrics) {
  std::vector<HttpRoute> routes = ServerRoutes(context, metrics);
  for (auto&& more : {GenerationRoutes(context), TokenRoutes(context)}) {
    routes.insert(routes.end(), more.begin(), more.end());
  }
  return HttpRouter(std::move(routes));
}

}  // namespace sheaf

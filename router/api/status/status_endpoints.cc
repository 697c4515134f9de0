// How the process is: health, version, metrics.
#include "router/api/status/status_endpoints.h"

#include "prometheus/text_serializer.h"
#include "router/api/request/json_fields.h"

namespace sheaf {
namespace {

HttpResponse Ok(const Json& answer) { return {200, "application/json", JsonText(answer), {}}; }

HttpReply Health(const ApiContext& context) {
  return HttpResponse{context.engine.ready() ? 200 : 503, "text/plain", "", {}};
}

}  // namespace

std::vector<HttpRoute> StatusRoutes(const ApiContext& context,
                                    const prometheus::Collectable& metrics) {
  const HttpHandler health = [&context](const HttpRequest&) { return Health(context); };
  return {
      {"GET", "/health", true, health},
      {"GET", "/ping", true, health},
      {"POST", "/ping", true, health},
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

}  // namespace sheaf

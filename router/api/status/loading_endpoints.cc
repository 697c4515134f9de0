#include "router/api/status/loading_endpoints.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "prometheus/text_serializer.h"
#include "router/api/http/http_errors.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

constexpr const char* kRetryAfterSeconds = "1";

HttpReply Loading(double progress) {
  const Json json = {{"status", "loading"}, {"progress", std::floor(progress * 1000) / 1000}};
  return HttpResponse{
      503, "application/json", JsonText(json), {{"Retry-After", kRetryAfterSeconds}}};
}

HttpReply NotYet(const HttpRequest&) {
  HttpResponse response = ErrorResponse(503, "The server is loading its weights.");
  response.headers.emplace_back("Retry-After", kRetryAfterSeconds);
  return response;
}

}  // namespace

HttpRouter MakeLoadingRouter(std::function<double()> progress,
                             const prometheus::Collectable& metrics,
                             std::vector<HttpRoute> more) {
  std::vector<HttpRoute> routes = std::move(more);
  const auto add = [&](const char* method, const char* path, HttpHandler answer) {
    routes.push_back({method, path, /*instant=*/true, std::move(answer)});
  };
  for (const char* path : {"/live", "/livez", "/health/live"}) {
    add("GET", path, [](const HttpRequest&) {
      return HttpReply(HttpResponse{200, "application/json", JsonText({{"status", "live"}}), {}});
    });
  }
  const auto loading = [progress](const HttpRequest&) { return Loading(progress()); };
  for (const char* path : {"/ready", "/readyz", "/health/ready", "/health", "/ping"}) {
    add("GET", path, loading);
  }
  add("POST", "/ping", loading);
  add("GET", "/metrics", [&metrics](const HttpRequest&) {
    return HttpReply(HttpResponse{200,
                                  "text/plain; version=0.0.4; charset=utf-8",
                                  prometheus::TextSerializer().Serialize(metrics.Collect()),
                                  {}});
  });
  return HttpRouter(std::move(routes), HttpRoute{"", "", /*instant=*/true, NotYet});
}

}  // namespace sheaf

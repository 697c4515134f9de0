#include "router/api/status/status_endpoints.h"

#include "prometheus/text_serializer.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

constexpr const char* kHangs = "the engine has not ended a step for a long time";
constexpr const char* kNotReady =
    "requests would not be run now: experts are missing, or attention ranks, or the server is "
    "stopping";

HttpResponse Answer(int status, const Json& json) {
  return {status, "application/json", JsonText(json), {}};
}

HttpResponse Probe(const char* good, const char* why_not) {
  if (why_not == nullptr) return Answer(200, {{"status", good}});
  return Answer(503, {{"status", std::string("not ") + good}, {"reason", why_not}});
}

HttpReply Live(const ApiContext& context) {
  return Probe("live", context.engine.live() ? nullptr : kHangs);
}

HttpReply Ready(const ApiContext& context) {
  if (!context.engine.live()) return Probe("ready", kHangs);
  return Probe("ready", context.engine.ready() ? nullptr : kNotReady);
}

HttpReply Health(const ApiContext& context) {
  return HttpResponse{context.engine.ready() ? 200 : 503, "text/plain", "", {}};
}

HttpReply Load(const ApiContext& context) {
  const EngineLoad load = context.engine.load();
  return Answer(200, {{"server_load", load.running + load.queued},
                      {"running", load.running},
                      {"queued", load.queued}});
}

HttpReply Metrics(const prometheus::Collectable& metrics) {
  return HttpResponse{200,
                      "text/plain; version=0.0.4; charset=utf-8",
                      prometheus::TextSerializer().Serialize(metrics.Collect()),
                      {}};
}

}  // namespace

std::vector<HttpRoute> StatusRoutes(const ApiContext& context,
                                    const prometheus::Collectable& metrics) {
  std::vector<HttpRoute> routes;
  const auto add = [&](const char* method, const char* path, auto answer) {
    routes.push_back({method, path, /*instant=*/true,
                      [answer](const HttpRequest&) { return HttpReply(answer()); }});
  };
  const auto live = [&context] { return Live(context); };
  for (const char* path : {"/live", "/livez", "/health/live"}) add("GET", path, live);
  const auto ready = [&context] { return Ready(context); };
  for (const char* path : {"/ready", "/readyz", "/health/ready"}) add("GET", path, ready);
  const auto health = [&context] { return Health(context); };
  add("GET", "/health", health);
  add("GET", "/ping", health);
  add("POST", "/ping", health);
  add("GET", "/load", [&context] { return Load(context); });
  add("POST", "/reset_prefix_cache", [&context] {
    context.engine.ResetPrefixCache();
    return HttpResponse{200, "text/plain", "", {}};
  });
  add("GET", "/version", [&context] {
    return Answer(200, {{"version", context.model.server_version}});
  });
  add("GET", "/metrics", [&metrics] { return Metrics(metrics); });
  return routes;
}

}  // namespace sheaf

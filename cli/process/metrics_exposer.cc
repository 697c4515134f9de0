#include "cli/process/metrics_exposer.h"

#include <atomic>
#include <chrono>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/host_port.h"
#include "prometheus/text_serializer.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

HttpResponse Probe(const char* good, const std::string& why_not) {
  if (why_not.empty()) {
    return {200, "application/json", JsonText(Json{{"status", good}}), {}};
  }
  return {503,
          "application/json",
          JsonText(Json{{"status", std::string("not ") + good}, {"reason", why_not}}),
          {}};
}

HttpRouter RoutesOf(const prometheus::Collectable& metrics,
                    MetricsExposer::WhyNotReady why_not_ready) {
  const auto route = [](const char* path, auto answer) {
    return HttpRoute{"GET", path, /*instant=*/true,
                     [answer](const HttpRequest&) { return HttpReply(answer()); }};
  };
  return HttpRouter(
      {route("/metrics",
             [&metrics] {
               return HttpResponse{200,
                                   "text/plain; version=0.0.4; charset=utf-8",
                                   prometheus::TextSerializer().Serialize(metrics.Collect()),
                                   {}};
             }),
       route("/live", [] { return Probe("live", ""); }),
       route("/ready", [why_not_ready] { return Probe("ready", why_not_ready()); })});
}

}  // namespace

MetricsExposer::MetricsExposer(const prometheus::Collectable& metrics, WhyNotReady why_not_ready)
    : router_(RoutesOf(metrics, std::move(why_not_ready))) {}

absl::StatusOr<std::unique_ptr<MetricsExposer>> MetricsExposer::Start(
    const std::string& host, int port, const prometheus::Collectable& metrics,
    WhyNotReady why_not_ready, std::shared_ptr<TlsIdentity> tls) {
  std::unique_ptr<MetricsExposer> exposer(new MetricsExposer(metrics, std::move(why_not_ready)));
  HttpServerOptions options;
  options.host = host;
  options.port = static_cast<uint16_t>(port);
  options.num_threads = 1;
  options.max_connections = 256;
  options.idle_timeout = std::chrono::seconds(30);
  options.tls = std::move(tls);
  auto server = HttpServer::Start(
      options, {exposer->router_, nullptr, nullptr, exposer->clock_,
                [next = std::make_shared<std::atomic<uint64_t>>(0)] { return (*next)++; },
                UnixSeconds});
  if (!server.ok()) {
    return absl::UnavailableError(absl::StrFormat("--metrics-port: cannot listen on %s: %s",
                                                  JoinHostPort(host, port),
                                                  server.status().message()));
  }
  exposer->server_ = *std::move(server);
  return exposer;
}

}  // namespace sheaf

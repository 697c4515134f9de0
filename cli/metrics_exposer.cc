#include "cli/metrics_exposer.h"

#include <atomic>
#include <chrono>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/host_port.h"
#include "prometheus/text_serializer.h"

namespace sheaf {
namespace {

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

HttpRouter RouteOf(const prometheus::Collectable& metrics) {
  return HttpRouter({{"GET", "/metrics", /*instant=*/true, [&metrics](const HttpRequest&) {
                        return HttpReply(
                            HttpResponse{200,
                                         "text/plain; version=0.0.4; charset=utf-8",
                                         prometheus::TextSerializer().Serialize(metrics.Collect()),
                                         {}});
                      }}});
}

}  // namespace

MetricsExposer::MetricsExposer(const prometheus::Collectable& metrics)
    : router_(RouteOf(metrics)) {}

absl::StatusOr<std::unique_ptr<MetricsExposer>> MetricsExposer::Start(
    const std::string& host, int port, const prometheus::Collectable& metrics) {
  std::unique_ptr<MetricsExposer> exposer(new MetricsExposer(metrics));
  HttpServerOptions options;
  options.host = host;
  options.port = static_cast<uint16_t>(port);
  options.num_threads = 1;
  options.max_connections = 256;
  options.idle_timeout = std::chrono::seconds(30);
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

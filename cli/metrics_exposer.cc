#include "cli/metrics_exposer.h"

#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/host_port.h"

namespace sheaf {

absl::StatusOr<MetricsExposer> ExposeMetrics(const std::string& host, int port,
                                             std::shared_ptr<prometheus::Registry> registry) {
  const std::string address = JoinHostPort(host, port);
  const std::vector<std::string> options = {
      "listening_ports", address, "num_threads", "8", "request_timeout_ms", "2000",
      "keep_alive_timeout_ms", "2000"};
  try {
    MetricsExposer made{std::make_unique<prometheus::Exposer>(options), 0};
    made.port = made.exposer->GetListeningPorts().front();
    made.exposer->RegisterCollectable(std::move(registry));
    return made;
  } catch (const std::exception& error) {  // civetweb's way to say that the port is taken
    return absl::UnavailableError(
        absl::StrFormat("--metrics-port: cannot listen on %s: %s", address, error.what()));
  }
}

}  // namespace sheaf

#pragma once
// /metrics and probes of a process that has no other HTTP port: a worker's, a coordinator's.
// Clients that connect and say nothing cost a connection each, of a bounded number, and hold up
// nobody.
//
//   GET /metrics  Prometheus text
//   GET /live     200
//   GET /ready    200, or 503 with why_not_ready's text as JSON {"status", "reason"}
//
// Ownership  borrows the metrics.
// Threads    one of its own.
// Errors     kUnavailable: cannot listen there (names the address).

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "network/tls/tls_identity.h"
#include "prometheus/collectable.h"
#include "router/api/http/http_router.h"
#include "router/api/http/http_server.h"

namespace sheaf {

class MetricsExposer {
 public:
  // Empty: it is ready. Called from the exposer's thread while it lives.
  using WhyNotReady = std::function<std::string()>;

  // `port` 0: any free one. A null identity: plaintext.
  static absl::StatusOr<std::unique_ptr<MetricsExposer>> Start(
      const std::string& host, int port, const prometheus::Collectable& metrics,
      WhyNotReady why_not_ready, std::shared_ptr<TlsIdentity> tls);

  int port() const { return server_->port(); }

 private:
  MetricsExposer(const prometheus::Collectable& metrics, WhyNotReady why_not_ready);

  const SteadyClock clock_;
  const HttpRouter router_;
  std::unique_ptr<HttpServer> server_;  // first to go
};

}  // namespace sheaf

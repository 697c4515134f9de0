#pragma once
// A worker's /metrics: an HTTP port of its own. Clients that connect and say nothing cost a
// connection each, of a bounded number, and hold up nobody.
//
// Ownership  borrows the metrics.
// Threads    one of its own.
// Errors     kUnavailable: cannot listen there (names the address).

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "prometheus/collectable.h"
#include "router/api/http/http_router.h"
#include "router/api/http/http_server.h"

namespace sheaf {

class MetricsExposer {
 public:
  // `port` 0: any free one.
  static absl::StatusOr<std::unique_ptr<MetricsExposer>> Start(
      const std::string& host, int port, const prometheus::Collectable& metrics);

  int port() const { return server_->port(); }

 private:
  explicit MetricsExposer(const prometheus::Collectable& metrics);

  const SteadyClock clock_;
  const HttpRouter router_;
  std::unique_ptr<HttpServer> server_;  // first to go
};

}  // namespace sheaf

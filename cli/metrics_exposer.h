#pragma once
// A worker's /metrics: an HTTP port of its own. A client that connects and says nothing holds one
// of its threads for a few seconds, never the last one for long.
//
// Ownership  the exposer keeps the registry alive.
// Errors     kUnavailable: cannot listen there (names the address).

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "prometheus/exposer.h"
#include "prometheus/registry.h"

namespace sheaf {

struct MetricsExposer {
  std::unique_ptr<prometheus::Exposer> exposer;
  int port = 0;
};

// `port` 0: any free one.
absl::StatusOr<MetricsExposer> ExposeMetrics(const std::string& host, int port,
                                             std::shared_ptr<prometheus::Registry> registry);

}  // namespace sheaf

#include "cli/options/attention_flags.h"

#include <CLI/CLI.hpp>

#include "base/status.h"
#include "cli/options/exchange_flags.h"
#include "cli/options/pool_flags.h"
#include "cli/options/process_flags.h"
#include "cli/options/tls_options.h"

namespace sheaf {

void AddAttentionFlags(CLI::App& app, AttentionOptions& options) {
  AddProcessFlags(app, options.process);
  AddConfigFlag(app);
  AddNumaNodeFlag(app, options.process);
  app.add_option("--router", options.router, "Where the router's attention ranks join, host:port")
      ->required();
  app.add_option("--rank", options.rank,
                 "Which rank it is, 1 to --tensor-parallel-size - 1; the router is rank 0")
      ->required()
      ->check(CLI::Range(1, 1023));
  AddTokenFlag(app, options.cluster_token_file);
  AddClusterTlsFlags(app, options.tls);
  app.add_option("--host", options.host, "Address that /metrics listens on")->capture_default_str();
  app.add_option("--metrics-port", options.metrics_port, "Port of /metrics; 0 = a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  AddMetricsTlsFlags(app, options.metrics_tls);
  app.add_option("--threads", options.threads,
                 "Compute threads; 0 = its cores, as its affinity mask and CPU quota allow")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  AddWorkerTransportFlag(app, options.transport);
  AddIntegrityFlag(app, options.exchange_integrity);
}

absl::Status FinishAttention(const AttentionOptions& options) {
  SHEAF_RETURN_IF_ERROR(CheckClusterTls(options.tls));
  return CheckMetricsTls(options.metrics_tls, options.tls);
}

}  // namespace sheaf

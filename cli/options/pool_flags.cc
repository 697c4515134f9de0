#include "cli/options/pool_flags.h"

#include <CLI/CLI.hpp>

#include "base/status.h"
#include "cli/options/client_flags.h"
#include "cli/options/process_flags.h"
#include "cli/options/tls_options.h"

namespace sheaf {

void AddTokenFlag(CLI::App& app, std::string& path) {
  app.add_option("--cluster-token-file", path,
                 "File whose contents workers and routers must present to join; default: none");
}

void AddPoolFlags(CLI::App& app, PoolOptions& options, int fewest_workers) {
  app.add_option("--workers", options.workers,
                 fewest_workers == 0 ? "Expert workers; 0 keeps the experts in the router's process"
                                     : "Expert workers expected; the first plan waits for them")
      ->check(CLI::Range(fewest_workers, 1024))
      ->capture_default_str();
  app.add_option("--expert-replicas", options.expert_replicas,
                 "Workers that hold each expert; 1.5: the hottest half of them twice")
      ->check(CLI::Range(1.0, 64.0))
      ->capture_default_str();
  app.add_option("--cluster-host", options.cluster_host,
                 "Address that workers and other routers join at; default: --host");
  app.add_option("--cluster-port", options.cluster_port, "Its port; 0 = a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  AddTokenFlag(app, options.cluster_token_file);
  AddClusterTlsFlags(app, options.tls);
  app.add_option("--lease-ms", options.lease_ms,
                 "A worker without a sign of life for this long is lost")
      ->check(CLI::Range(100, 3600000))
      ->capture_default_str();
}

void AddCoordinatorFlags(CLI::App& app, CoordinatorCommandOptions& options) {
  AddProcessFlags(app, options.process);
  AddConfigFlag(app);
  AddPoolFlags(app, options.pool, /*fewest_workers=*/0);
  app.add_option("--host", options.host, "Address that /metrics listens on")->capture_default_str();
  app.add_option("--metrics-port", options.metrics_port, "Port of /metrics; 0 = a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  AddMetricsTlsFlags(app, options.metrics_tls);
  app.add_option("--ready-file", options.ready_file,
                 "Written when it listens: its address and process id as JSON");
}

void AddPoolCommandFlags(CLI::App& app, PoolCommandOptions& options) {
  using Action = PoolCommandOptions::Action;
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* text, Action action) {
    CLI::App* command = app.add_subcommand(name, text);
    command
        ->add_option("--coordinator", options.coordinator,
                     "Cluster address of the router or the coordinator, host:port")
        ->capture_default_str();
    AddTokenFlag(*command, options.cluster_token_file);
    AddDialTlsFlags(*command, options.dial);
    AddClusterTlsFlags(*command, options.tls);
    command->add_option("--timeout-ms", options.timeout_ms, "Longest wait for the answer")
        ->check(CLI::Range(1, 3600000))
        ->capture_default_str();
    command->callback([&options, action] { options.action = action; });
    return command;
  };
  add("status", "Who holds what, load, links, moves under way", Action::kStatus)
      ->add_flag("--json", options.json, "One JSON object instead of a table");
  for (CLI::App* command : {add("drain", "A worker's experts move to others", Action::kDrain),
                            add("undrain", "The worker takes experts again", Action::kUndrain)}) {
    command->add_option("worker", options.worker, "Its id")
        ->required()
        ->check(CLI::Range(0, 1 << 20));
  }
  add("replicas", "Holders that every expert shall have", Action::kReplicas)
      ->add_option("replicas", options.replicas, "1.5: the hottest half twice")
      ->required()
      ->check(CLI::Range(1.0, 64.0));
  add("rebalance", "Plans again now, with the loads measured so far", Action::kRebalance);
}

absl::Status FinishCoordinator(const CoordinatorCommandOptions& options) {
  SHEAF_RETURN_IF_ERROR(CheckClusterTls(options.pool.tls));
  return CheckMetricsTls(options.metrics_tls, options.pool.tls);
}

absl::Status FinishPoolCommand(const PoolCommandOptions& options) {
  SHEAF_RETURN_IF_ERROR(CheckClusterTls(options.tls));
  if (options.dial.wanted() && !options.tls.cert.empty()) {
    return absl::InvalidArgumentError(
        "--tls, --cluster-tls-cert: wanted one of the two kinds of TLS flags, got both");
  }
  return absl::OkStatus();
}

}  // namespace sheaf

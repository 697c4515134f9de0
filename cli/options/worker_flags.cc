#include "cli/options/worker_flags.h"

#include <CLI/CLI.hpp>

#include "base/status.h"
#include "cli/options/device_flags.h"
#include "cli/options/exchange_flags.h"
#include "cli/options/pool_flags.h"
#include "cli/options/process_flags.h"
#include "cli/options/tls_options.h"

namespace sheaf {

void AddWorkerFlags(CLI::App& app, WorkerOptions& options, std::string& exchange_ports) {
  AddProcessFlags(app, options.process);
  AddConfigFlag(app);
  AddNumaNodeFlag(app, options.process);
  app.add_option("--coordinator,--router", options.coordinator,
                 "Cluster address of the router or the coordinator, host:port")
      ->required();
  AddTokenFlag(app, options.cluster_token_file);
  AddClusterTlsFlags(app, options.tls);
  app.add_option("--host", options.host, "Address that /metrics listens on")->capture_default_str();
  app.add_option("--metrics-port", options.metrics_port, "Port of /metrics; 0 = a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  AddMetricsTlsFlags(app, options.metrics_tls);
  app.add_option("--worker-threads", options.worker_threads,
                 "Compute threads; 0 = its cores, as its affinity mask and CPU quota allow")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();

  AddDeviceFlag(app, options);
  AddWorkerTransportFlag(app, options.transport);
  app.add_option("--id,--slot", options.id, "Wanted worker id; -1 = any free one")
      ->check(CLI::Range(-1, 1023))
      ->capture_default_str();
  app.add_option(
         "--memory-bytes", options.memory_bytes,
         "Bytes of experts that it may hold, e.g. 32GiB; 0 = no bound. On a GPU: of its memory, "
         "buffers included; 0 = what is free")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app.add_flag("--spare", options.spare, "Hold nothing until another worker is lost");
  app.add_option("--exchange-host", options.exchange_host,
                 "Address that TCP links use; default: the one that reaches the coordinator");
  app.add_option("--exchange-interface", options.exchange_interface,
                 "Network interface whose address they use instead, e.g. eth1");
  app.add_option("--exchange-ports", exchange_ports,
                 "FIRST-LAST port that TCP links may listen on; default: any free one");
  AddIntegrityFlag(app, options.exchange_integrity);
  AddWaitFlag(app, options.exchange_wait);
}

absl::Status FinishWorker(WorkerOptions& options, const std::string& exchange_ports) {
  SHEAF_RETURN_IF_ERROR(
      ReadPorts(exchange_ports, options.first_exchange_port, options.last_exchange_port));
  SHEAF_RETURN_IF_ERROR(ParseDevice("--device", options.device).status());
  SHEAF_RETURN_IF_ERROR(CheckClusterTls(options.tls));
  return CheckMetricsTls(options.metrics_tls, options.tls);
}

}  // namespace sheaf

// `sheaf worker`: one expert worker, until SIGTERM (it leaves the cluster in order) or a permanent
// error.

#include <prometheus/registry.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/cpu_topology.h"
#include "base/status.h"
#include "cli/child_processes.h"
#include "cli/commands.h"
#include "cli/data_plane.h"
#include "cli/metrics_exposer.h"
#include "cli/model_identity.h"
#include "cli/own_address.h"
#include "cli/preflight.h"
#include "cli/process_setup.h"
#include "worker/worker.h"

namespace sheaf {
namespace {

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = {};
  gethostname(name, HOST_NAME_MAX);
  return name;
}

// Unique for this process's life.
std::string InstanceName() {
  return absl::StrFormat("%s-%d-%08x", HostName(), getpid(), std::random_device{}());
}

absl::Status RunUntilStopped(const WorkerOptions& options, StopSignals& signals) {
  SHEAF_RETURN_IF_ERROR(SetUpProcess(options.process));
  SHEAF_ASSIGN_OR_RETURN(WorkerPreflight preflight,
                         RunWorkerPreflight(options.process.checkpoint));
  const ModelConfig& config = preflight.config;
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<Transport> transport, MakeTransport(options.transport));
  auto registry = std::make_shared<prometheus::Registry>();
  WorkerMetrics metrics(*registry, SHEAF_VERSION);
  SHEAF_ASSIGN_OR_RETURN(const MetricsExposer exposer,
                         ExposeMetrics(options.host, options.metrics_port, registry));

  WorkerConfig worker_config;
  worker_config.router = options.router;
  SHEAF_ASSIGN_OR_RETURN(worker_config.model, IdentityOf(*preflight.checkpoint, config));
  worker_config.instance = InstanceName();
  worker_config.pid = getpid();
  worker_config.host = HostName();
  worker_config.metrics_address = AnnouncedAddress(options.host, exposer.port, options.router);
  worker_config.version = SHEAF_VERSION;
  worker_config.threads =
      options.worker_threads > 0 ? options.worker_threads : DetectCpuTopology().usable_cores;
  worker_config.preferred_slot = options.slot;
  spdlog::info("worker: metrics on {}", worker_config.metrics_address);

  Worker worker(std::move(worker_config),
                CheckpointSliceLoader(std::move(preflight.checkpoint), config), *transport,
                metrics);
  std::atomic<bool> ended{false};
  absl::Status result;
  std::thread control([&] {
    result = worker.Run();
    ended.store(true);
  });
  while (!ended.load() && !signals.WaitFor(std::chrono::milliseconds(50))) {
  }
  worker.Stop();
  control.join();
  return result;
}

}  // namespace

int RunWorker(const WorkerOptions& options) {
  StopSignals signals;  // before any thread: the mask is inherited
  const absl::Status status = RunUntilStopped(options, signals);
  if (status.ok()) return 0;
  // A parent says it in its own words; without one this is the line for the operator.
  if (!TellParent(status)) Fail(status);
  return ExitStatusOf(status);
}

}  // namespace sheaf

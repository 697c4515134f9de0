// `sheaf worker`: one expert worker, until SIGTERM (it leaves the pool in order) or a permanent
// error.

#include <pthread.h>
#include <prometheus/registry.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/cpu_topology.h"
#include "base/status.h"
#include "cli/commands/commands.h"
#include "cli/options/tls_options.h"
#include "cli/process/child_processes.h"
#include "cli/process/exposed_metrics.h"
#include "cli/process/metrics_exposer.h"
#include "cli/process/own_address.h"
#include "cli/process/preflight.h"
#include "cli/process/process_identity.h"
#include "cli/process/process_setup.h"
#include "cli/process/service_manager.h"
#include "cli/router/data_plane.h"
#include "cli/router/model_identity.h"
#include "model/expert_reader.h"
#include "network/tls/grpc_credentials.h"
#include "worker/engine/cpu_engine.h"
#include "worker/worker.h"

namespace sheaf {
namespace {

absl::Status RunUntilStopped(const WorkerOptions& options, StopSignals& signals) {
  std::optional<StopSignals::NothingToFinish> until_it_joins(std::in_place, signals);
  const ServiceManagerAddress manager_address = ServiceManagerAddress::Take();
  if (!options.tls.cert.empty()) WantNewestTls();
  SHEAF_RETURN_IF_ERROR(SetUpProcess(options.process));
  SHEAF_ASSIGN_OR_RETURN(WorkerPreflight preflight,
                         RunWorkerPreflight(options.process.checkpoint));
  const ModelConfig& config = preflight.config;
  WorkerConfig worker_config;
  worker_config.coordinator = options.coordinator;
  SHEAF_ASSIGN_OR_RETURN(worker_config.token, ReadToken(options.cluster_token_file));
  SHEAF_ASSIGN_OR_RETURN(worker_config.model, IdentityOf(*preflight.checkpoint, config));
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<LinkMaker> links, MakeWorkerLinks(options));
  auto registry = std::make_shared<prometheus::Registry>();
  WorkerMetrics metrics(*registry, SHEAF_VERSION);
  const ExposedMetrics exposed(*registry);
  const SteadyClock clock;
  const auto tls_report = std::make_shared<TlsReport>(registry.get(), clock);
  SHEAF_ASSIGN_OR_RETURN(std::shared_ptr<TlsIdentity> metrics_tls,
                         OpenMetricsTls(options.metrics_tls, options.tls, tls_report));
  WarnIfExposed("/metrics", options.host, metrics_tls != nullptr, "reads this worker's figures");
  SHEAF_ASSIGN_OR_RETURN(
      const std::unique_ptr<MetricsExposer> exposer,
      MetricsExposer::Start(
          options.host, options.metrics_port, exposed,
          [&metrics] { return metrics.WhyNotReady(); }, std::move(metrics_tls)));
  SHEAF_ASSIGN_OR_RETURN(worker_config.tls, OpenClusterTls(options.tls, tls_report));

  worker_config.instance = RandomInstance();
  worker_config.secret = RandomSecret();
  worker_config.pid = getpid();
  worker_config.host = HostName();
  worker_config.metrics_address =
      AnnouncedAddress(options.host, exposer->port(), options.coordinator);
  worker_config.version = SHEAF_VERSION;
  worker_config.threads =
      options.worker_threads > 0 ? options.worker_threads : DetectCpuTopology().default_threads();
  worker_config.preferred_id = options.id;
  worker_config.spare = options.spare;
  spdlog::info("worker: metrics on {}", worker_config.metrics_address);

  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<ExpertReader> reader,
                         ExpertReader::Create(std::move(preflight.checkpoint), config));
  // Loading is reading and unpacking: it takes what the computing threads leave.
  CpuEngine engine(std::move(reader), std::clamp(worker_config.threads, 1, 8), options.memory_bytes);
  Worker worker(std::move(worker_config), engine, *links, metrics);
  until_it_joins.reset();
  std::atomic<bool> ended{false};
  absl::Status result;
  std::thread control([&] {
    pthread_setname_np(pthread_self(), "sheaf-control");
    result = worker.Run();
    ended.store(true);
  });
  ServiceManager manager(manager_address, clock);
  manager.Ready();  // to be asked; whether it is a member yet is the status
  while (!ended.load() && !signals.WaitFor(std::chrono::milliseconds(50))) {
    const Worker::Rounds rounds = worker.rounds();
    manager.TickRounds({rounds.control, rounds.compute});
    const std::string why_not = metrics.WhyNotReady();
    manager.StatusIs(why_not.empty() ? "ready" : why_not);
  }
  manager.Stopping();
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

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
#include "cli/options/device_flags.h"
#include "cli/options/tls_options.h"
#include "cli/process/child_processes.h"
#include "cli/process/exposed_metrics.h"
#include "cli/process/metrics_exposer.h"
#include "cli/process/numa_node.h"
#include "cli/process/own_address.h"
#include "cli/process/preflight.h"
#include "cli/process/process_identity.h"
#include "cli/process/process_setup.h"
#include "cli/process/service_manager.h"
#include "cli/router/data_plane.h"
#include "cli/router/model_identity.h"
#include "model/expert_reader.h"
#include "network/tls/grpc_credentials.h"
#include "worker/device/device_engine.h"
#include "worker/engine/cpu_engine.h"
#include "worker/worker.h"

namespace sheaf {
namespace {

// The engine that the options ask for.
absl::StatusOr<std::unique_ptr<ExpertEngine>> MakeEngine(
    const WorkerOptions& options, int threads, std::shared_ptr<const Checkpoint> checkpoint,
    const ModelConfig& config, CudaFinder find_cuda) {
  SHEAF_ASSIGN_OR_RETURN(const std::optional<int> gpu, ParseDevice("--device", options.device));
  absl::StatusOr<CudaPlatform> cuda = CudaPlatform();
  if (gpu.has_value()) cuda = find_cuda();
  SHEAF_RETURN_IF_ERROR(cuda.status());
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<ExpertReader> reader,
                         ExpertReader::Create(std::move(checkpoint), config));
  // Loading is reading and unpacking: it takes what the computing threads leave.
  const int lanes = std::clamp(threads, 1, 8);
  if (!gpu.has_value())
    return std::make_unique<CpuEngine>(std::move(reader), lanes, options.memory_bytes);
  SHEAF_ASSIGN_OR_RETURN(
      std::unique_ptr<DeviceEngine> engine,
      DeviceEngine::Create(*std::move(cuda), std::move(reader),
                           {*gpu, lanes, options.memory_bytes, config.num_experts}));
  spdlog::info("worker: {}", engine->Describe());
  return engine;
}

absl::Status RunUntilStopped(const WorkerOptions& options, const std::string& numa_node,
                             CudaFinder find_cuda, StopSignals& signals) {
  std::optional<StopSignals::NothingToFinish> until_it_joins(std::in_place, signals);
  const ServiceManagerAddress manager_address = ServiceManagerAddress::Take();
  if (!options.tls.cert.empty()) WantNewestTls();
  SHEAF_RETURN_IF_ERROR(SetUpProcess(options.process));
  if (!numa_node.empty()) spdlog::info("{}", numa_node);
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
  worker_config.wait = WaitOf(options.exchange_wait);
  worker_config.preferred_id = options.id;
  worker_config.spare = options.spare;
  spdlog::info("worker: metrics on {}", worker_config.metrics_address);

  SHEAF_ASSIGN_OR_RETURN(const std::unique_ptr<ExpertEngine> engine,
                         MakeEngine(options, worker_config.threads, std::move(preflight.checkpoint),
                                    config, find_cuda));
  Worker worker(std::move(worker_config), *engine, *links, metrics);
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

int RunWorker(const WorkerOptions& options, CudaFinder find_cuda) {
  StopSignals::Hold();
  const auto numa_node = GoToNumaNode(options.process);  // before any thread
  StopSignals signals;  // before any other thread: the mask is inherited
  const absl::Status status = numa_node.ok()
                                  ? RunUntilStopped(options, *numa_node, find_cuda, signals)
                                  : numa_node.status();
  if (status.ok()) return 0;
  // A parent says it in its own words; without one this is the line for the operator.
  if (!TellParent(status)) Fail(status);
  return ExitStatusOf(status);
}

}  // namespace sheaf

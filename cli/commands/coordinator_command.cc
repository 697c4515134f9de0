// `sheaf coordinator`: the coordinator of a pool as a process of its own, for several routers,
// until SIGTERM. Routers and workers go on without it.

#include <prometheus/registry.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "base/host_port.h"
#include "base/status.h"
#include "cli/commands/commands.h"
#include "cli/process/exposed_metrics.h"
#include "cli/process/metrics_exposer.h"
#include "cli/process/preflight.h"
#include "cli/process/process_identity.h"
#include "cli/process/process_setup.h"
#include "cli/process/ready_file.h"
#include "cli/process/service_manager.h"
#include "cli/router/model_identity.h"
#include "coordinator/coordinator.h"
#include "coordinator/coordinator_metrics.h"
#include "coordinator/pool_server.h"
#include "network/tls/grpc_credentials.h"

namespace sheaf {
namespace {

absl::Status RunUntilStopped(const CoordinatorCommandOptions& options, StopSignals& signals) {
  const ServiceManagerAddress manager_address = ServiceManagerAddress::Take();
  if (!options.pool.tls.cert.empty()) WantNewestTls();
  SHEAF_RETURN_IF_ERROR(SetUpProcess(options.process));
  std::unique_ptr<ReadyFile> ready_file;
  if (!options.ready_file.empty()) {
    SHEAF_ASSIGN_OR_RETURN(ready_file, ReadyFile::Claim(options.ready_file));
  }
  CoordinatorOptions coordinator_options;
  PoolStateOptions& pool = coordinator_options.pool;
  {
    SHEAF_ASSIGN_OR_RETURN(WorkerPreflight preflight,
                           RunWorkerPreflight(options.process.checkpoint));
    SHEAF_ASSIGN_OR_RETURN(pool.model, IdentityOf(*preflight.checkpoint, preflight.config));
  }
  SHEAF_ASSIGN_OR_RETURN(pool.token, ReadToken(options.pool.cluster_token_file));
  pool.expected_workers = options.pool.workers;
  pool.replicas = options.pool.expert_replicas;
  pool.lease = std::chrono::milliseconds(options.pool.lease_ms);

  auto registry = std::make_shared<prometheus::Registry>();
  CoordinatorMetrics metrics(*registry);
  const ExposedMetrics exposed(*registry);
  std::atomic<bool> listens{false};
  SteadyClock clock;
  const auto tls_report = std::make_shared<TlsReport>(registry.get(), clock);
  SHEAF_ASSIGN_OR_RETURN(std::shared_ptr<TlsIdentity> metrics_tls,
                         OpenMetricsTls(options.metrics_tls, options.pool.tls, tls_report));
  WarnIfExposed("/metrics", options.host, metrics_tls != nullptr, "reads the pool's figures");
  SHEAF_ASSIGN_OR_RETURN(
      const std::unique_ptr<MetricsExposer> exposer,
      MetricsExposer::Start(
          options.host, options.metrics_port, exposed,
          [&listens] {
            return std::string(listens.load() ? "" : "the cluster port is not open yet");
          },
          std::move(metrics_tls)));
  SHEAF_ASSIGN_OR_RETURN(std::shared_ptr<TlsIdentity> tls,
                         OpenClusterTls(options.pool.tls, tls_report));
  const std::string& cluster_host =
      options.pool.cluster_host.empty() ? options.host : options.pool.cluster_host;
  WarnIfExposed("the cluster port", cluster_host, tls != nullptr,
                pool.token.empty() ? "may join as a worker or a router, and drain the pool"
                                   : "and knows the token may join as a worker or a router");
  Coordinator coordinator(coordinator_options, clock, nullptr, &metrics);
  SHEAF_ASSIGN_OR_RETURN(
      std::unique_ptr<PoolServer> server,
      PoolServer::Start({cluster_host, options.pool.cluster_port, std::move(tls)}, coordinator));
  listens.store(true);
  spdlog::info("coordinator: cluster on {}, metrics on {}", server->address(),
               JoinHostPort(options.host, exposer->port()));
  if (ready_file) {
    ReadyInfo info;
    info.cluster = server->address();
    info.coordinator_pid = getpid();
    SHEAF_RETURN_IF_ERROR(ready_file->Write(info));
  }
  ServiceManager manager(manager_address, clock);
  manager.Ready();
  do {
    manager.TickRounds({coordinator.rounds()});
  } while (!signals.WaitFor(std::chrono::milliseconds(250)));
  manager.Stopping();
  spdlog::info("coordinator: asked to stop; routers and workers go on");
  server->Stop();
  return absl::OkStatus();
}

}  // namespace

int RunCoordinator(const CoordinatorCommandOptions& options) {
  StopSignals signals;  // before any thread: the mask is inherited
  const absl::Status status = RunUntilStopped(options, signals);
  return status.ok() ? 0 : Fail(status);
}

}  // namespace sheaf

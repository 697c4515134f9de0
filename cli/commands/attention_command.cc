// `sheaf attention`: one attention rank, until SIGTERM or a permanent error.

#include <prometheus/registry.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <memory>
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
#include "cli/process/numa_node.h"
#include "cli/process/own_address.h"
#include "cli/process/process_identity.h"
#include "cli/process/process_setup.h"
#include "cli/process/service_manager.h"
#include "cli/router/data_plane.h"
#include "cli/router/model_identity.h"
#include "model/model_layout.h"
#include "network/tls/grpc_credentials.h"
#include "router/ranks/rank_member.h"

namespace sheaf {
namespace {

absl::Status RunUntilStopped(const AttentionOptions& options, const std::string& numa_node,
                             StopSignals& signals) {
  const ServiceManagerAddress manager_address = ServiceManagerAddress::Take();
  if (!options.tls.cert.empty()) WantNewestTls();
  SHEAF_RETURN_IF_ERROR(SetUpProcess(options.process));
  if (!numa_node.empty()) spdlog::info("{}", numa_node);
  SHEAF_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                         Checkpoint::Open(options.process.checkpoint));
  SHEAF_ASSIGN_OR_RETURN(ModelConfig config, LoadModelConfig(options.process.checkpoint));
  FitVocabulary(*checkpoint, config);
  const SteadyClock clock;
  RankMemberOptions member;
  member.router = options.router;
  SHEAF_ASSIGN_OR_RETURN(member.token, ReadToken(options.cluster_token_file));
  prometheus::Registry registry;
  RankMemberMetrics metrics(registry, options.rank, SHEAF_VERSION);
  const ExposedMetrics exposed(registry);
  const auto tls_report = std::make_shared<TlsReport>(&registry, clock);
  SHEAF_ASSIGN_OR_RETURN(std::shared_ptr<TlsIdentity> metrics_tls,
                         OpenMetricsTls(options.metrics_tls, options.tls, tls_report));
  WarnIfExposed("/metrics", options.host, metrics_tls != nullptr, "reads this rank's figures");
  SHEAF_ASSIGN_OR_RETURN(
      const std::unique_ptr<MetricsExposer> exposer,
      MetricsExposer::Start(
          options.host, options.metrics_port, exposed,
          [&metrics] { return metrics.WhyNotReady(); }, std::move(metrics_tls)));
  spdlog::info("attention rank {}: metrics on {}", options.rank,
               AnnouncedAddress(options.host, exposer->port(), options.router));
  SHEAF_ASSIGN_OR_RETURN(member.tls, OpenClusterTls(options.tls, tls_report));
  SHEAF_ASSIGN_OR_RETURN(member.model, IdentityOf(*checkpoint, config));
  member.rank = options.rank;
  member.instance = RandomInstance();
  member.host = HostName();
  member.pid = getpid();
  member.version = SHEAF_VERSION;
  ThreadPool pool(options.threads > 0 ? options.threads : DetectCpuTopology().default_threads());
  const std::unique_ptr<LinkMaker> links =
      MakeRouterLinks(options.transport, options.exchange_integrity);
  RankMember rank(std::move(member), *checkpoint, config, pool, *links, metrics);
  std::atomic<bool> ended{false};
  absl::Status result;
  std::thread steps([&] {
    pthread_setname_np(pthread_self(), "sheaf-step");
    result = rank.Run();
    ended.store(true);
  });
  ServiceManager manager(manager_address, clock);
  manager.Ready();
  while (!ended.load() && !signals.WaitFor(std::chrono::milliseconds(50))) {
    manager.Tick(true);
    const std::string why_not = metrics.WhyNotReady();
    manager.StatusIs(why_not.empty() ? "ready" : why_not);
  }
  manager.Stopping();
  rank.Stop();
  steps.join();
  return result;
}

}  // namespace

int RunAttention(const AttentionOptions& options) {
  StopSignals::Hold();
  const auto numa_node = GoToNumaNode(options.process);  // before any thread
  StopSignals signals;  // before any other thread: the mask is inherited
  const absl::Status status = numa_node.ok() ? RunUntilStopped(options, *numa_node, signals)
                                             : numa_node.status();
  if (status.ok()) return 0;
  // A parent says it in its own words; without one this is the line for the operator.
  if (!TellParent(status)) Fail(status);
  return ExitStatusOf(status);
}

}  // namespace sheaf

// `sheaf serve` (router and worker children) and `sheaf router` (router alone).

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/host_port.h"
#include "base/numa_binding.h"
#include "base/status.h"
#include "cli/commands/commands.h"
#include "cli/commands/serve_placement.h"
#include "cli/process/child_processes.h"
#include "cli/process/numa_node.h"
#include "cli/process/process_setup.h"
#include "cli/process/ready_file.h"
#include "cli/process/service_manager.h"
#include "cli/router/router_process.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;

// The token and the certificates by which a child may join.
void ShowWhoWeAre(const RouterOptions& options, std::vector<std::string>& command) {
  if (!options.pool.cluster_token_file.empty()) {
    command.push_back("--cluster-token-file");
    command.push_back(options.pool.cluster_token_file);
  }
  for (std::string& flag : FlagsOf(options.pool.tls)) command.push_back(std::move(flag));
}

std::vector<std::vector<std::string>> WorkerCommands(const RouterOptions& options,
                                                     const std::string& program,
                                                     const std::string& cluster_address) {
  if (cluster_address.empty()) return {};
  // Children join over loopback also when the router listens on every interface.
  const auto split = SplitHostPort(cluster_address);
  SHEAF_CHECK(split.ok(), "the router's own address is one");
  const std::string coordinator = JoinHostPort(LocalHostOf(split->host), split->port);
  std::vector<std::vector<std::string>> commands;
  for (int id = 0; id < options.pool.workers; ++id) {
    commands.push_back({program, "worker", options.process.checkpoint, "--coordinator",
                        coordinator, "--id", absl::StrFormat("%d", id), "--worker-threads",
                        absl::StrFormat("%d", options.worker_threads), "--cpu-target",
                        options.process.cpu_target, "--transport", NameOf(options.transport),
                        "--exchange-integrity", NameOf(options.exchange_integrity),
                        "--exchange-wait", NameOf(options.exchange_wait), "--log-level",
                        options.process.log_level, "--log-format", options.process.log_format});
    if (!options.worker_devices.empty()) {
      commands.back().push_back("--device");
      commands.back().push_back(
          options.worker_devices[static_cast<size_t>(id) % options.worker_devices.size()]);
    }
    ShowWhoWeAre(options, commands.back());
  }
  return commands;
}

std::vector<std::vector<std::string>> RankCommands(const RouterOptions& options,
                                                   const std::string& program,
                                                   const std::string& attention_address) {
  if (attention_address.empty()) return {};
  const auto split = SplitHostPort(attention_address);
  SHEAF_CHECK(split.ok(), "the router's own address is one");
  const std::string router = JoinHostPort(LocalHostOf(split->host), split->port);
  std::vector<std::vector<std::string>> commands;
  for (int rank = 1; rank < options.tensor_parallel_size; ++rank) {
    commands.push_back(
        {program, "attention", options.process.checkpoint, "--router", router, "--rank",
         absl::StrFormat("%d", rank), "--threads", absl::StrFormat("%d", options.threads),
         "--cpu-target", options.process.cpu_target, "--transport",
         NameOf(options.transport == TransportKind::kInProcess ? TransportKind::kSharedMemory
                                                               : options.transport),
         "--exchange-integrity", NameOf(options.exchange_integrity), "--log-level",
         options.process.log_level, "--log-format", options.process.log_format});
    ShowWhoWeAre(options, commands.back());
  }
  return commands;
}

// Workers first.
std::vector<std::vector<std::string>> ChildCommands(const RouterOptions& options,
                                                    const std::string& program,
                                                    const RouterProcess& router) {
  if (program.empty()) return {};
  std::vector<std::vector<std::string>> commands =
      WorkerCommands(options, program, router.cluster_address());
  for (auto& command : RankCommands(options, program, router.attention_address())) {
    commands.push_back(std::move(command));
  }
  return commands;
}

// Each child is told its node: it binds itself before it takes memory.
void TellNodes(const std::vector<int>& nodes, std::vector<std::vector<std::string>>& commands) {
  for (size_t i = 0; i < std::min(nodes.size(), commands.size()); ++i) {
    commands[i].push_back("--numa-node");
    commands[i].push_back(absl::StrFormat("%d", nodes[i]));
  }
}

// Where this process and its children run; this one is there when it returns.
struct Settled {
  ServePlacement placement;
  std::string numa_node;  // for the log; empty: nothing to say
};

absl::StatusOr<Settled> Settle(RouterOptions& options, bool has_children) {
  Settled settled;
  if (has_children) {
    SHEAF_ASSIGN_OR_RETURN(settled.placement, PlaceServe(options));
    if (!settled.placement.router_cpus.empty()) {
      SHEAF_RETURN_IF_ERROR(RunOnCpus(settled.placement.router_cpus));
    }
  } else {
    PlaceRouter(options);
  }
  SHEAF_ASSIGN_OR_RETURN(settled.numa_node, GoToNumaNode(options.process));
  return settled;
}

// Keeps the ready file true. A disk that is full for now is no reason to end.
class ReadyFileKeeper {
 public:
  explicit ReadyFileKeeper(std::unique_ptr<ReadyFile> file) : file_(std::move(file)) {}

  // The file does not tell the present process ids.
  void SetStale() { stale_ = true; }

  void Update(const ReadyInfo& info, TimePoint now) {
    if (!file_ || !stale_ || now < next_try_) return;
    const absl::Status written = file_->Write(info);
    stale_ = !written.ok();
    if (written.ok()) {
      if (std::exchange(warned_, false)) spdlog::info("--ready-file: written again");
      return;
    }
    next_try_ = now + kRetry;
    if (!std::exchange(warned_, true)) {
      spdlog::warn("{}; tried again every second", std::string(written.message()));
    }
  }

  void Remove() { file_.reset(); }

 private:
  static constexpr std::chrono::seconds kRetry{1};

  std::unique_ptr<ReadyFile> file_;
  bool stale_ = true;
  bool warned_ = false;
  TimePoint next_try_{};
};

ReadyInfo Describe(const RouterOptions& options, const RouterProcess& router,
                   const ChildProcesses& children) {
  ReadyInfo info;
  info.http = router.http_address();
  info.grpc = router.grpc_address();
  info.cluster = router.cluster_address();
  info.router_pid = static_cast<int>(getpid());
  const int workers = router.cluster_address().empty() ? 0 : options.pool.workers;
  for (const ChildProcesses::Child& child : children.children()) {
    if (child.pid <= 0) continue;
    const int pid = static_cast<int>(child.pid);
    if (child.id < workers) {
      info.workers.push_back({child.id, pid});
    } else {
      info.attention_ranks.push_back({child.id - workers + 1, pid});
    }
  }
  return info;
}

struct Started {
  std::unique_ptr<RouterProcess> router;
  std::unique_ptr<ReadyFile> ready_file;  // null: none is wanted
};

absl::StatusOr<Started> Start(const RouterOptions& options, const Settled& settled,
                              StopSignals& signals) {
  const StopSignals::NothingToFinish until_ports_answer(signals);
  SHEAF_RETURN_IF_ERROR(SetUpProcess(options.process));
  if (!settled.placement.text.empty()) spdlog::info("{}", settled.placement.text);
  for (const std::string& remark : settled.placement.remarks) spdlog::warn("--numa: {}", remark);
  if (!settled.numa_node.empty()) spdlog::info("{}", settled.numa_node);
  Started started;
  if (!options.ready_file.empty()) {
    SHEAF_ASSIGN_OR_RETURN(started.ready_file, ReadyFile::Claim(options.ready_file));
  }
  SHEAF_ASSIGN_OR_RETURN(started.router, RouterProcess::Start(options));
  return started;
}

// Runs until SIGINT or SIGTERM; `program` empty: no children.
int Run(RouterOptions options, const std::string& program) {
  // Children are on this host.
  if (!program.empty() && options.transport == TransportKind::kAuto) {
    options.transport = TransportKind::kSharedMemory;
  }
  options.workers_are_here = !program.empty();
  StopSignals::Hold();
  const auto settled = Settle(options, !program.empty());  // before any thread
  if (!settled.ok()) return Fail(settled.status());
  StopSignals signals;  // before any other thread: the mask is inherited
  const ServiceManagerAddress manager_address = ServiceManagerAddress::Take();
  SteadyClock clock;
  auto started = Start(options, *settled, signals);
  if (!started.ok()) return Fail(started.status());
  RouterProcess& router = *started->router;
  ReadyFileKeeper ready_file(std::move(started->ready_file));

  std::vector<std::vector<std::string>> commands = ChildCommands(options, program, router);
  TellNodes(settled->placement.child_nodes, commands);
  ChildProcesses children(std::move(commands), clock, settled->placement.child_cpus);
  absl::Status why = children.StartAll();
  // Its ports answer; others that are started after it may be what it waits for.
  ServiceManager manager(manager_address, clock);
  manager.StatusIs("loading");
  manager.Ready();
  bool announced = false;
  while (why.ok() && !signals.WaitFor(milliseconds(50))) {
    manager.Tick(router.live());
    router.CountRanks();
    if (children.Poll()) ready_file.SetStale();
    if (children.permanent_failure()) {
      why = absl::InternalError(children.permanent_reason());
    } else {
      why = router.failure();
    }
    // The workers of this machine read these very files: no other one can do better. Once it has
    // served, it goes on with what is in memory.
    if (why.ok() && !announced && !program.empty()) why = router.broken_checkpoint();
    if (!why.ok()) break;
    for (int pid : router.LinkedRankPids()) children.HasServed(pid);
    for (int pid : router.TakeHungPids()) children.Kill(pid);
    if (router.loaded())
      manager.StatusIs(router.ready() ? "ready" : "waits for workers or attention ranks");
    if (!router.ready()) continue;
    if (!announced) spdlog::info("ready");
    announced = true;
    ready_file.Update(Describe(options, router, children), clock.Now());
  }
  ready_file.Remove();
  manager.Stopping();
  if (why.ok()) spdlog::info("stopping");
  if (!router.loaded() && router.failure().ok()) {
    // Nobody is served, and what is being loaded would only be waited for.
    children.StopAll(milliseconds(100));
    EndNow(why.ok() ? 0 : Fail(why));
  }
  router.Drain(milliseconds(why.ok() ? options.shutdown_timeout_ms : 0));
  children.StopAll(milliseconds(3000));
  router.Stop();
  return why.ok() ? 0 : Fail(why);  // last of all, where an operator looks first
}

}  // namespace

int RunServe(const RouterOptions& options, const char* program) {
  char path[PATH_MAX];
  const ssize_t length = readlink(program, path, sizeof(path) - 1);
  return Run(options,
             length > 0 ? std::string(path, static_cast<size_t>(length)) : std::string(program));
}

int RunRouter(const RouterOptions& options) { return Run(options, ""); }

}  // namespace sheaf

// `sheaf serve` (router and worker children) and `sheaf router` (router alone).

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <climits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "cli/child_processes.h"
#include "cli/commands.h"
#include "cli/process_setup.h"
#include "cli/ready_file.h"
#include "cli/router_process.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;

std::vector<std::vector<std::string>> WorkerCommands(const RouterOptions& options,
                                                     const std::string& program,
                                                     const std::string& grpc_address) {
  // Children join over loopback also when the router listens on every interface.
  std::string router = grpc_address;
  if (router.rfind("0.0.0.0:", 0) == 0) router.replace(0, 7, "127.0.0.1");
  std::vector<std::vector<std::string>> commands;
  for (int id = 0; id < options.workers; ++id) {
    commands.push_back({program, "worker", options.process.checkpoint, "--router", router, "--slot",
                        absl::StrFormat("%d", id), "--worker-threads",
                        absl::StrFormat("%d", options.worker_threads), "--cpu-target",
                        options.process.cpu_target, "--transport", NameOf(options.transport),
                        "--log-level", options.process.log_level, "--log-format",
                        options.process.log_format});
  }
  return commands;
}

ReadyInfo Describe(const RouterProcess& router, const ChildProcesses& children) {
  ReadyInfo info;
  info.http = router.http_address();
  info.grpc = router.grpc_address();
  info.router_pid = static_cast<int>(getpid());
  for (const ChildProcesses::Child& child : children.children()) {
    if (child.pid > 0) info.workers.push_back({child.id, static_cast<int>(child.pid)});
  }
  return info;
}

// Runs until SIGINT or SIGTERM; `program` empty: no children.
int Run(RouterOptions options, const std::string& program) {
  StopSignals signals;  // before any thread: the mask is inherited
  if (absl::Status status = SetUpProcess(options.process); !status.ok()) return Fail(status);
  // Children are on this host.
  if (!program.empty() && options.transport == TransportKind::kAuto) {
    options.transport = TransportKind::kSharedMemory;
  }
  SteadyClock clock;
  auto router = RouterProcess::Start(options);
  if (!router.ok()) return Fail(router.status());

  const bool children_wanted = !program.empty() && options.transport != TransportKind::kInProcess;
  ChildProcesses children(children_wanted
                              ? WorkerCommands(options, program, (*router)->grpc_address())
                              : std::vector<std::vector<std::string>>{},
                          clock);
  int status = 0;
  if (absl::Status started = children.StartAll(); !started.ok()) {
    status = Fail(started);
  }
  bool announced = false;
  bool stale = true;  // the ready file does not tell the present process ids
  while (status == 0 && !signals.WaitFor(milliseconds(50))) {
    if (children.Poll()) stale = true;
    if (children.permanent_failure()) {
      status = 1;
      break;
    }
    for (int pid : (*router)->TakeSuspectPids()) children.Kill(pid);
    if (!(*router)->ready()) continue;
    if (!announced) spdlog::info("ready");
    announced = true;
    if (!stale || options.ready_file.empty()) continue;
    stale = false;
    if (absl::Status written = WriteReadyFile(options.ready_file, Describe(**router, children));
        !written.ok()) {
      status = Fail(written);
    }
  }
  if (status == 0) spdlog::info("stopping");
  (*router)->Drain(milliseconds(status == 0 ? options.shutdown_timeout_ms : 0));
  children.StopAll(milliseconds(3000));
  (*router)->Stop();
  if (children.permanent_failure()) {  // last of all, where an operator looks first
    const std::string& reason = children.permanent_reason();
    return Fail(absl::InternalError(
        reason.empty() ? std::string("a worker cannot load its slice of the checkpoint") : reason));
  }
  return status;
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

#include "cli/child_processes.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kFirstBackOff{100};
constexpr seconds kLongestBackOff{5};
constexpr seconds kHealthyAfter{10};

std::string DescribeEnd(int status) {
  if (WIFSIGNALED(status)) return absl::StrFormat("killed by signal %d", WTERMSIG(status));
  return absl::StrFormat("exit status %d", WEXITSTATUS(status));
}

}  // namespace

ChildProcesses::ChildProcesses(std::vector<std::vector<std::string>> commands, const Clock& clock)
    : commands_(std::move(commands)), clock_(clock), children_(commands_.size()) {
  for (size_t i = 0; i < children_.size(); ++i) {
    children_[i].id = static_cast<int>(i);
    children_[i].back_off = kFirstBackOff;
  }
}

ChildProcesses::~ChildProcesses() { StopAll(Duration::zero()); }

absl::Status ChildProcesses::Start(Child& child) {
  std::vector<char*> arguments;
  for (const std::string& argument : commands_[static_cast<size_t>(child.id)]) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    return absl::InternalError(
        absl::StrFormat("cannot start %s: %s", arguments[0], strerror(errno)));
  }
  if (pid == 0) {
    // Only async-signal-safe calls until exec: the parent has threads.
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);  // the parent died before prctl
    setpgid(0, 0);  // Ctrl-C goes to the parent alone, which stops its children in order
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  child.pid = pid;
  child.started = clock_.Now();
  return absl::OkStatus();
}

absl::Status ChildProcesses::StartAll() {
  for (Child& child : children_) SHEAF_RETURN_IF_ERROR(Start(child));
  return absl::OkStatus();
}

bool ChildProcesses::Poll() {
  bool changed = false;
  for (Child& child : children_) {
    if (child.pid > 0) {
      int status = 0;
      if (waitpid(child.pid, &status, WNOHANG) != child.pid) continue;
      if (WIFEXITED(status) && WEXITSTATUS(status) == kPermanentFailure) permanent_failure_ = true;
      const TimePoint now = clock_.Now();
      if (now - child.started >= kHealthyAfter) child.back_off = kFirstBackOff;
      child.restart_at = now + child.back_off;
      spdlog::warn("worker process {} (pid {}) ended: {}; restart in {} ms", child.id, child.pid,
                   DescribeEnd(status),
                   std::chrono::duration_cast<milliseconds>(child.back_off).count());
      child.back_off = std::min<Duration>(child.back_off * 2, kLongestBackOff);
      child.pid = -1;
      changed = true;
    }
    if (child.pid < 0 && !permanent_failure_ && clock_.Now() >= child.restart_at) {
      ++child.restarts;
      if (absl::Status status = Start(child); !status.ok()) {
        spdlog::error("worker process {}: {}", child.id, std::string(status.message()));
        child.restart_at = clock_.Now() + child.back_off;
      } else {
        changed = true;
      }
    }
  }
  return changed;
}

void ChildProcesses::Kill(pid_t pid) {
  for (const Child& child : children_) {
    if (child.pid == pid && pid > 0) kill(pid, SIGKILL);
  }
}

void ChildProcesses::StopAll(Duration patience) {
  const TimePoint deadline = clock_.Now() + patience;
  for (const Child& child : children_) {
    if (child.pid > 0) {
      kill(child.pid, patience > Duration::zero() ? SIGTERM : SIGKILL);
      kill(child.pid, SIGCONT);  // a stopped process acts on SIGTERM only when continued
    }
  }
  bool killed = false;
  for (;;) {
    bool any = false;
    for (Child& child : children_) {
      if (child.pid <= 0) continue;
      if (waitpid(child.pid, nullptr, WNOHANG) == child.pid) {
        child.pid = -1;
      } else {
        any = true;
      }
    }
    if (!any) return;
    if (!killed && clock_.Now() >= deadline) {
      killed = true;
      for (const Child& child : children_) {
        if (child.pid > 0) kill(child.pid, SIGKILL);
      }
    }
    std::this_thread::sleep_for(milliseconds(5));
  }
}

}  // namespace sheaf

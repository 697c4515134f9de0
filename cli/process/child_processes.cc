#include "cli/process/child_processes.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/one_line.h"
#include "base/status.h"
#include "cli/process/restart_policy.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;

constexpr const char* kLastWordsVariable = "SHEAF_LAST_WORDS_FD";
constexpr size_t kMaxLastWordsBytes = 4096;

// This process's environment with the variable set to `fd`.
std::vector<std::string> EnvironmentWith(int fd) {
  const std::string start = std::string(kLastWordsVariable) + "=";
  std::vector<std::string> entries = {start + std::to_string(fd)};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, start.c_str(), start.size()) != 0) entries.emplace_back(*entry);
  }
  return entries;
}

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// Closes the file; empty when nothing was said.
std::string TakeLastWords(int& fd) {
  std::string words(kMaxLastWordsBytes, '\0');
  const ssize_t size = fd < 0 ? 0 : pread(fd, words.data(), words.size(), 0);
  words.resize(size > 0 ? static_cast<size_t>(size) : 0);
  if (fd >= 0) close(fd);
  fd = -1;
  return words;
}

cpu_set_t CpuSetOf(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) {
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  }
  return set;
}

// Only system calls until exec: the parent's other threads go on meanwhile.
[[noreturn]] void ExecChild(char* const* arguments, char* const* environment, int last_words_fd,
                            pid_t parent, const cpu_set_t* cpus) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);  // the parent died before prctl
  if (cpus != nullptr) sched_setaffinity(0, sizeof(*cpus), cpus);
  setpgid(0, 0);  // Ctrl-C goes to the parent alone, which stops its children in order
  for (int number = 1; number < NSIG; ++number) {  // what is ignored stays so, as under nohup
    struct sigaction action = {};
    if (sigaction(number, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) continue;
    action.sa_handler = SIG_DFL;
    action.sa_flags = 0;
    sigaction(number, &action, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // At exec the kernel closes all of them but these four.
  syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
  if (last_words_fd >= 0) fcntl(last_words_fd, F_SETFD, 0);
  execve(arguments[0], arguments, environment);
  _exit(127);
}

std::string DescribeEnd(int status) {
  if (WIFSIGNALED(status)) return absl::StrFormat("killed by signal %d", WTERMSIG(status));
  return absl::StrFormat("exit status %d", WEXITSTATUS(status));
}

}  // namespace

ChildProcesses::ChildProcesses(std::vector<std::vector<std::string>> commands, const Clock& clock,
                               std::vector<std::vector<int>> cpus)
    : commands_(std::move(commands)),
      cpus_(std::move(cpus)),
      clock_(clock),
      children_(commands_.size()) {
  for (size_t i = 0; i < children_.size(); ++i) {
    children_[i].id = static_cast<int>(i);
  }
}

ChildProcesses::~ChildProcesses() { StopAll(Duration::zero()); }

absl::Status ChildProcesses::Start(Child& child) {
  const std::vector<char*> arguments = Pointers(commands_[static_cast<size_t>(child.id)]);
  // Without one, the child speaks for itself.
  child.last_words_fd = memfd_create("last words", MFD_CLOEXEC);
  const int last_words_fd = child.last_words_fd;
  const std::vector<std::string> entries = EnvironmentWith(last_words_fd);
  const std::vector<char*> environment = Pointers(entries);
  const pid_t parent = getpid();
  const size_t id = static_cast<size_t>(child.id);
  if (id < cpus_.size() && !cpus_[id].empty()) child.bound_to = CpuSetOf(cpus_[id]);
  // The child runs in this process's memory until exec: no handler may run in it.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = vfork();
  if (pid == 0) {
    ExecChild(arguments.data(), environment.data(), last_words_fd, parent,
              child.bound_to.has_value() ? &*child.bound_to : nullptr);
  }
  const int error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) {
    TakeLastWords(child.last_words_fd);
    return absl::InternalError(
        absl::StrFormat("cannot start %s: %s", arguments[0], strerror(error)));
  }
  child.pid = pid;
  child.had_served = false;
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
      const std::string words = TakeLastWords(child.last_words_fd);
      const bool permanent = WIFEXITED(status) && WEXITSTATUS(status) == kPermanentFailure;
      const TimePoint now = clock_.Now();
      child.back_off = RestartWait(
          child.back_off, {now - child.started, WIFSIGNALED(status) != 0, child.had_served});
      child.restart_at = now + child.back_off;
      const std::string end =
          DescribeEnd(status) + (words.empty() ? std::string() : ": " + OneLine(words));
      if (permanent && !std::exchange(permanent_failure_, true)) {
        permanent_reason_ = words.empty()
                                ? absl::StrFormat("worker process %d (pid %d) ended: %s", child.id,
                                                  child.pid, end)
                                : words;
      }
      if (permanent) {
        spdlog::error("worker process {} (pid {}) ended: {}", child.id, child.pid, end);
      } else {
        spdlog::warn("worker process {} (pid {}) ended: {}; restart in {} ms", child.id, child.pid,
                     end, std::chrono::duration_cast<milliseconds>(child.back_off).count());
      }
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

void ChildProcesses::HasServed(pid_t pid) {
  for (Child& child : children_) {
    if (child.pid == pid && pid > 0) child.had_served = true;
  }
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
        TakeLastWords(child.last_words_fd);
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

int ExitStatusOf(const absl::Status& why) {
  switch (why.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return kPermanentFailure;
    default:
      return 1;
  }
}

bool TellParent(const absl::Status& why) {
  const char* const variable = std::getenv(kLastWordsVariable);
  int fd = -1;
  if (variable == nullptr || !absl::SimpleAtoi(variable, &fd) || fd < 0) return false;
  const absl::string_view message = why.message().substr(0, kMaxLastWordsBytes);
  return pwrite(fd, message.data(), message.size(), 0) == static_cast<ssize_t>(message.size());
}

}  // namespace sheaf

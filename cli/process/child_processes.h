#pragma once
// ChildProcesses keeps a fixed set of child processes alive: starts them, restarts one that ends,
// stops all.
//
// A child that ends is started again after a while (restart_policy.h). A child whose parent dies
// gets SIGTERM from the kernel (prctl), so none is left behind.
//
// A child inherits stdin, stdout, stderr and nothing else: whatever this process has open, ports
// above all, ends with this process. It is made by vfork, which copies no page table and leaves
// memory that other devices know (RDMA) alone.
//
// A child may leave last words (TellParent): why it ends, kept for the parent's own last line. They
// travel in a memory file that the child inherits, named by an environment variable, so neither
// side ever waits for the other.
//
// Threads    one owner thread; Poll() is called about every 50 ms by the owner's loop.
// Errors     Start: kInternal when fork or exec fails (names the program).

#include <sched.h>
#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"

namespace sheaf {

// Exit status of a child that would fail again: it is not restarted.
inline constexpr int kPermanentFailure = 3;

// Of a child that ends with this error: kPermanentFailure only for what no second try makes better
// (a bad checkpoint, a refusal), 1 for the rest: memory or a disk that is full for now, a file that
// is changed or absent for a moment, a peer that does not answer.
int ExitStatusOf(const absl::Status& why);

class ChildProcesses {
 public:
  struct Child {
    int id = 0;      // position in `commands`
    pid_t pid = -1;  // -1 while waiting for its restart
    int restarts = 0;
    TimePoint started;
    TimePoint restart_at;
    Duration back_off{};      // before this life, or the next one; zero in the first
    bool had_served = false;  // in this life
    int last_words_fd = -1;
    std::optional<cpu_set_t> bound_to{};  // empty: any processor
  };

  // commands[i] is the argument vector of child i; its first entry is the program. cpus[i] is what
  // child i may run on; none, or no entry: what this process may.
  ChildProcesses(std::vector<std::vector<std::string>> commands, const Clock& clock,
                 std::vector<std::vector<int>> cpus = {});
  ~ChildProcesses();  // SIGKILL for whatever still runs

  absl::Status StartAll();

  // Reaps ended children and restarts those whose back-off is over. True when some pid changed.
  bool Poll();

  // SIGTERM to all, then SIGKILL at the deadline; returns when all are reaped.
  void StopAll(Duration patience);

  // That child has come to do its work: if a signal ends it, it is back soon.
  void HasServed(pid_t pid);

  // SIGKILL for one that hangs (e.g. is stopped); Poll() restarts it.
  void Kill(pid_t pid);

  const std::vector<Child>& children() const { return children_; }

  // A child ended with kPermanentFailure.
  bool permanent_failure() const { return permanent_failure_; }
  // Why the first such child ended: its last words, or where it had none, which process it was.
  const std::string& permanent_reason() const { return permanent_reason_; }

 private:
  absl::Status Start(Child& child);

  const std::vector<std::vector<std::string>> commands_;
  const std::vector<std::vector<int>> cpus_;
  const Clock& clock_;
  std::vector<Child> children_;
  bool permanent_failure_ = false;
  std::string permanent_reason_;
};

// In a child: leaves the message as last words. False: this process has no such parent.
bool TellParent(const absl::Status& why);

}  // namespace sheaf

#include "cli/process/child_processes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>

#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/unique_fd.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Polls until the condition holds; false at the deadline.
bool Within(seconds limit, const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(ChildProcesses, RestartsWhatIsKilledAfterItsBackOff) {
  SteadyClock clock;
  ChildProcesses children({{"/bin/sleep", "1000"}, {"/bin/sleep", "1000"}}, clock);
  ASSERT_TRUE(children.StartAll().ok());
  const pid_t other = children.children()[0].pid;
  const pid_t victim = children.children()[1].pid;
  children.Kill(victim);
  ASSERT_TRUE(Within(seconds(30), [&] {
    children.Poll();
    return children.children()[1].pid > 0 && children.children()[1].pid != victim;
  }));
  EXPECT_EQ(children.children()[0].pid, other);
  EXPECT_EQ(children.children()[1].restarts, 1);
}

TEST(ChildProcesses, RunWhereTheyAreTold) {
  SteadyClock clock;
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
  int last = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) last = CPU_ISSET(cpu, &all) ? cpu : last;
  ChildProcesses children({{"/bin/sleep", "1000"}, {"/bin/sleep", "1000"}}, clock, {{last}});
  ASSERT_TRUE(children.StartAll().ok());
  cpu_set_t bound, free;
  ASSERT_EQ(sched_getaffinity(children.children()[0].pid, sizeof(bound), &bound), 0);
  ASSERT_EQ(sched_getaffinity(children.children()[1].pid, sizeof(free), &free), 0);
  EXPECT_EQ(CPU_COUNT(&bound), 1);
  EXPECT_TRUE(CPU_ISSET(last, &bound));
  EXPECT_TRUE(CPU_EQUAL(&free, &all));
}

TEST(ChildProcesses, BackOffDoublesWhileAChildKeepsFailing) {
  ManualClock clock;
  ChildProcesses children({{"/bin/false"}}, clock);
  ASSERT_TRUE(children.StartAll().ok());
  const auto ended = [&] {
    children.Poll();
    return children.children()[0].pid < 0;
  };
  int restarts = 0;
  for (const int wanted_ms : {100, 200, 400, 800, 1600, 3200, 5000, 5000}) {
    ASSERT_TRUE(Within(seconds(30), ended));
    EXPECT_EQ(children.children()[0].restart_at - clock.Now(), milliseconds(wanted_ms));
    clock.Advance(milliseconds(wanted_ms - 1));
    EXPECT_FALSE(children.Poll()) << "before the back-off of " << wanted_ms << " ms was over";
    EXPECT_EQ(children.children()[0].restarts, restarts);
    clock.Advance(milliseconds(1));
    ASSERT_TRUE(children.Poll());
    EXPECT_EQ(children.children()[0].restarts, ++restarts);
  }
  clock.Advance(seconds(10));  // as if the last one had run for long
  ASSERT_TRUE(Within(seconds(30), ended));
  EXPECT_EQ(children.children()[0].restart_at - clock.Now(), milliseconds(100));
}

TEST(ChildProcesses, APermanentFailureIsNotRepeated) {
  SteadyClock clock;
  ChildProcesses children({{"/bin/sh", "-c", "exit 3"}}, clock);
  ASSERT_TRUE(children.StartAll().ok());
  ASSERT_TRUE(Within(seconds(30), [&] {
    children.Poll();
    return children.permanent_failure();
  }));
  EXPECT_EQ(children.children()[0].restarts, 0);
}

TEST(ChildProcesses, LastWordsOfAPermanentFailureAreKept) {
  SteadyClock clock;
  ChildProcesses children(
      {{"/bin/sh", "-c", "printf 'no such expert' >/proc/self/fd/$SHEAF_LAST_WORDS_FD; exit 3"}},
      clock);
  ASSERT_TRUE(children.StartAll().ok());
  ASSERT_TRUE(Within(seconds(30), [&] {
    children.Poll();
    return children.permanent_failure();
  }));
  EXPECT_EQ(children.permanent_reason(), "no such expert");
}

TEST(ChildProcesses, WithoutAParentNobodyIsTold) {
  EXPECT_FALSE(TellParent(absl::InternalError("alone")));
}

TEST(ChildProcesses, APermanentFailureWithoutWordsIsNamedByItsProcess) {
  SteadyClock clock;
  ChildProcesses children({{"/bin/sh", "-c", "exit 3"}}, clock);
  ASSERT_TRUE(children.StartAll().ok());
  const pid_t pid = children.children()[0].pid;
  ASSERT_TRUE(Within(seconds(30), [&] {
    children.Poll();
    return children.permanent_failure();
  }));
  EXPECT_EQ(children.permanent_reason(),
            absl::StrFormat("worker process 0 (pid %d) ended: exit status 3", pid));
}

TEST(ChildProcesses, OnlyWhatCannotGetBetterIsPermanent) {
  EXPECT_EQ(ExitStatusOf(absl::OkStatus()), 0);
  for (const absl::Status& why :
       {absl::InvalidArgumentError("bad checkpoint"), absl::FailedPreconditionError("refused"),
        absl::UnimplementedError("format"), absl::UnauthenticatedError("token")}) {
    EXPECT_EQ(ExitStatusOf(why), kPermanentFailure) << why;
  }
  for (const absl::Status& why :
       {absl::ResourceExhaustedError("memory"), absl::DataLossError("changed"),
        absl::NotFoundError("absent"), absl::UnavailableError("peer"),
        absl::DeadlineExceededError("peer"), absl::InternalError("?"), absl::AbortedError("?")}) {
    EXPECT_EQ(ExitStatusOf(why), 1) << why;
  }
}

TEST(ChildProcesses, AChildInheritsNoneOfTheParentsFiles) {
  SteadyClock clock;
  const UniqueFd open_here(open("/dev/null", O_RDONLY));  // not close-on-exec
  ASSERT_TRUE(open_here.valid());
  // The shell's own names of what it has open: 0, 1, 2, the last words and the listing itself.
  ChildProcesses children(
      {{"/bin/sh", "-c",
        "for fd in /proc/self/fd/*; do case $(readlink $fd) in /dev/null) [ ${fd##*/} -gt 2 ] && "
        "printf 'inherited %s' $fd >/proc/self/fd/$SHEAF_LAST_WORDS_FD;; esac; done; exit 3"}},
      clock);
  ASSERT_TRUE(children.StartAll().ok());
  ASSERT_TRUE(Within(seconds(30), [&] {
    children.Poll();
    return children.permanent_failure();
  }));
  EXPECT_EQ(children.permanent_reason().find("inherited"), std::string::npos)
      << children.permanent_reason();
}

TEST(ChildProcesses, StopAllEndsAlsoWhatIgnoresSigterm) {
  SteadyClock clock;
  const std::string ignores = testing::TempDir() + "/sheaf_child_ignores_sigterm";
  std::filesystem::remove(ignores);
  ChildProcesses children({{"/bin/sleep", "1000"},
                           {"/bin/sh", "-c", "trap '' TERM; : >\"$0\"; exec sleep 1000", ignores}},
                          clock);
  ASSERT_TRUE(children.StartAll().ok());
  ASSERT_TRUE(Within(seconds(30), [&] { return std::filesystem::exists(ignores); }));
  const pid_t pids[] = {children.children()[0].pid, children.children()[1].pid};
  const TimePoint begin = clock.Now();
  children.StopAll(milliseconds(200));
  EXPECT_GE(clock.Now() - begin, milliseconds(200)) << "SIGTERM was not ignored";
  for (pid_t pid : pids) EXPECT_NE(kill(pid, 0), 0);
}

}  // namespace
}  // namespace sheaf

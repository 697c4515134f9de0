#include "cli/child_processes.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <functional>
#include <thread>

#include "base/clock.h"

namespace sheaf {
namespace {

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

TEST(ChildProcesses, BackOffDoublesWhileAChildKeepsFailing) {
  ManualClock clock;
  ChildProcesses children({{"/bin/false"}}, clock);
  ASSERT_TRUE(children.StartAll().ok());
  Duration last = Duration::zero();
  for (int failure = 0; failure < 4; ++failure) {
    ASSERT_TRUE(Within(seconds(30), [&] {
      children.Poll();
      return children.children()[0].pid < 0;
    }));
    const Duration wait = children.children()[0].restart_at - clock.Now();
    EXPECT_GT(wait, last);
    last = wait;
    clock.Advance(wait);
    ASSERT_TRUE(children.Poll());
  }
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

TEST(ChildProcesses, StopAllEndsAlsoWhatIgnoresSigterm) {
  SteadyClock clock;
  ChildProcesses children(
      {{"/bin/sleep", "1000"}, {"/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"}},
      clock);
  ASSERT_TRUE(children.StartAll().ok());
  const pid_t pids[] = {children.children()[0].pid, children.children()[1].pid};
  children.StopAll(std::chrono::milliseconds(200));
  for (pid_t pid : pids) EXPECT_NE(kill(pid, 0), 0);
}

}  // namespace
}  // namespace sheaf

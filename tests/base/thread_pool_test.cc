#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace sheaf {
namespace {

using std::chrono::steady_clock;

constexpr ItemCost kWorthSharing{1'000'000};

TEST(ThreadPool, RunsEveryItemOnceWhateverTheThreadCount) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (int items : {0, 1, 2, 7, 1000}) {
      for (ItemCost cost : {ItemCost{1}, ItemCost{5'000}, kWorthSharing}) {
        std::vector<std::atomic<int>> counts(items);
        pool.ParallelFor(items, cost, [&](int64_t item, int thread) {
          ASSERT_LT(thread, threads);
          counts[item].fetch_add(1);
        });
        for (const auto& count : counts) EXPECT_EQ(count.load(), 1);
      }
    }
  }
}

TEST(ThreadPool, ParkedThreadsComeBackForTheNextLoop) {
  ThreadPool pool(3, std::chrono::microseconds(0));
  std::atomic<int> sum{0};
  for (int round = 0; round < 2000; ++round) {
    pool.ParallelFor(4, [&](int64_t, int) { sum.fetch_add(1); });
    if (round % 3 == 0) pool.Park();
  }
  EXPECT_EQ(sum.load(), 8000);
}

// What items wrote is seen by the owner, and by the items of the next loop, without atomics of
// their own (for the thread sanitizer).
TEST(ThreadPool, LoopsFollowOneAnother) {
  ThreadPool pool(8);
  std::vector<int> values(64, 0);
  for (int round = 1; round <= 500; ++round) {
    pool.ParallelFor(64, kWorthSharing, [&](int64_t item, int) { values[63 - item] += round; });
    pool.ParallelFor(64, kWorthSharing, [&](int64_t item, int) { values[item] -= round - 1; });
  }
  for (const int value : values) EXPECT_EQ(value, 500);
}

TEST(ThreadPool, ALoopTooSmallToShareRunsOnItsOwner) {
  ThreadPool pool(4);
  const auto self = std::this_thread::get_id();
  for (int round = 0; round < 200; ++round) {
    pool.ParallelFor(9, ItemCost{1'000}, [&](int64_t, int thread) {
      EXPECT_EQ(thread, 0);
      EXPECT_EQ(std::this_thread::get_id(), self);
    });
  }
}

// Waits for `condition`; false after half a minute.
template <typename Condition>
bool Becomes(const Condition& condition) {
  const auto deadline = steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(ThreadPool, ALargeLoopIsShared) {
  ThreadPool pool(2);
  std::atomic<int> arrived{0};
  pool.ParallelFor(2, kWorthSharing, [&](int64_t, int) {
    ++arrived;
    EXPECT_TRUE(Becomes([&] { return arrived == 2; })) << "each item has a thread";
  });
}

// A thread that the machine does not run: a signal's handler keeps it, wherever it was.
std::atomic<bool> is_kept{false}, may_go{false};
void Keep(int) {
  is_kept = true;
  const auto deadline = steady_clock::now() + std::chrono::seconds(20);
  while (!may_go && steady_clock::now() < deadline) {
  }
  is_kept = false;
}

TEST(ThreadPool, AThreadThatDoesNotRunDelaysNoLoopThatItIsNotIn) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "it keeps a signal until the thread calls the system";
#endif
  is_kept = may_go = false;
  struct sigaction action = {}, before = {};
  action.sa_handler = Keep;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  {
    // It spins, so it has no lock.
    ThreadPool pool(2, std::chrono::hours(1));
    std::atomic<pthread_t> other{};
    std::atomic<int> arrived{0};
    pool.ParallelFor(2, kWorthSharing, [&](int64_t, int thread) {
      if (thread == 1) other = pthread_self();
      ++arrived;
      EXPECT_TRUE(Becomes([&] { return arrived == 2; }));
    });
    ASSERT_EQ(pthread_kill(other, SIGUSR1), 0);
    ASSERT_TRUE(Becomes([] { return is_kept.load(); }));
    std::atomic<int> items{0};
    for (int loop = 0; loop < 100; ++loop) {
      pool.ParallelFor(50, kWorthSharing, [&](int64_t, int thread) {
        EXPECT_EQ(thread, 0);
        ++items;
      });
    }
    EXPECT_EQ(items, 5000);
    EXPECT_TRUE(is_kept) << "no loop waited for it";
    may_go = true;
    // And it comes back.
    arrived = 0;
    pool.ParallelFor(2, kWorthSharing, [&](int64_t, int) {
      ++arrived;
      EXPECT_TRUE(Becomes([&] { return arrived == 2; }));
    });
  }
  sigaction(SIGUSR1, &before, nullptr);
}

class Cutter final : public ThreadPool::Lookout {
 public:
  explicit Cutter(int after) : after_(after) {}
  bool Look() override {
    EXPECT_EQ(std::this_thread::get_id(), owner_);
    return ++looks >= after_;
  }
  int looks = 0;

 private:
  const int after_;
  const std::thread::id owner_ = std::this_thread::get_id();
};

TEST(ThreadPool, ALookoutIsAskedInLongLoopsAndCutsThem) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    Cutter never(1 << 30);
    pool.SetLookout(&never);
    std::atomic<int> items{0};
    const auto count = [&](int64_t, int) { ++items; };
    pool.ParallelFor(20, ItemCost{40'000}, count);
    EXPECT_EQ(never.looks, 0) << "a short one";
    pool.ParallelFor(20, kWorthSharing, count);
    EXPECT_GT(never.looks, 0);
    EXPECT_EQ(items, 40);
    EXPECT_FALSE(pool.cut());

    Cutter at_once(1);
    pool.SetLookout(&at_once);
    items = 0;
    // The others' items in flight are done; nobody begins one that comes after.
    pool.ParallelFor(1'000'000'000, kWorthSharing, count);
    EXPECT_TRUE(pool.cut());
    EXPECT_LT(items, 1'000'000'000);
    items = 0;
    pool.ParallelFor(20, ItemCost{1}, count);
    pool.ParallelFor(20, count);
    EXPECT_EQ(items, 0) << "neither is any other loop run";
    EXPECT_EQ(at_once.looks, 1);

    pool.SetLookout(nullptr);
    EXPECT_FALSE(pool.cut());
    pool.ParallelFor(20, kWorthSharing, count);
    EXPECT_EQ(items, 20);
  }
}

}  // namespace
}  // namespace sheaf

#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace sheaf {
namespace {

TEST(ThreadPool, RunsEveryItemOnceWhateverTheThreadCount) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (int items : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> counts(items);
      pool.ParallelFor(items, [&](int64_t item, int thread) {
        ASSERT_LT(thread, threads);
        counts[item].fetch_add(1);
      });
      for (const auto& count : counts) EXPECT_EQ(count.load(), 1);
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

}  // namespace
}  // namespace sheaf

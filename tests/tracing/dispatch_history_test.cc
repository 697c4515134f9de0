// Of many steps, those of one request.
#include "tracing/dispatch_history.h"

#include "gtest/gtest.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;

TimePoint At(int ms) { return TimePoint(milliseconds(ms)); }

TEST(DispatchHistoryTest, StepsOfATimeAreAddedUp) {
  DispatchHistory history;
  history.Add(At(0), At(10), {{WorkerId(0), 1, 8, 0.001, 0.001}});
  history.Add(At(10), At(20), {{WorkerId(0), 2, 8, 0.004, 0.003}, {WorkerId(2), 1, 4, 0.5, 0.5}});
  history.Add(At(20), At(30), {{WorkerId(0), 1, 8, 0.002, 0.002}, {WorkerId(1), 1, 1, 0.1, 0.1}});
  history.Add(At(30), At(40), {{WorkerId(0), 9, 9, 9, 9}});
  const DispatchHistory::Window window = history.Sum(At(12), At(28));
  EXPECT_EQ(window.steps, 2);
  EXPECT_EQ(window.begin, At(10));
  EXPECT_EQ(window.end, At(30));
  ASSERT_EQ(window.workers.size(), 3u);
  EXPECT_EQ(window.workers[0].worker, WorkerId(0));
  EXPECT_EQ(window.workers[0].answers, 3);
  EXPECT_EQ(window.workers[0].pairs, 16);
  EXPECT_DOUBLE_EQ(window.workers[0].seconds, 0.006);
  EXPECT_DOUBLE_EQ(window.workers[0].longest_seconds, 0.003);
  EXPECT_EQ(window.workers[1].worker, WorkerId(1));
  EXPECT_EQ(window.workers[2].worker, WorkerId(2));
  EXPECT_EQ(history.Sum(At(16), At(16)).steps, 0);
  EXPECT_EQ(history.Sum(At(15), At(16)).steps, 1) << "by a step's middle, the begin included";
  EXPECT_EQ(history.Sum(At(14), At(15)).steps, 0);
  EXPECT_EQ(DispatchHistory().Sum(At(0), At(99)).steps, 0);
}

TEST(DispatchHistoryTest, OldStepsAreForgotten) {
  DispatchHistory history;
  const int steps = static_cast<int>(DispatchHistory::kSteps) + 100;
  for (int i = 0; i < steps; ++i) history.Add(At(i), At(i + 1), {{WorkerId(0), 1, 1, 1, 1}});
  const DispatchHistory::Window window = history.Sum(At(0), At(steps));
  EXPECT_EQ(window.steps, static_cast<int>(DispatchHistory::kSteps));
  EXPECT_EQ(window.begin, At(100)) << "it says since when";
  EXPECT_EQ(window.workers.at(0).answers, int64_t{DispatchHistory::kSteps});
}

}  // namespace
}  // namespace sheaf

// How long a child that has ended stays ended.

#include "cli/process/restart_policy.h"

#include <gtest/gtest.h>

#include <vector>

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr ChildEnd kFailsAtOnce{.lived = milliseconds(50)};
constexpr ChildEnd kKilledBeforeItServed{.lived = seconds(1), .by_signal = true};
constexpr ChildEnd kLeftAfterItServed{.lived = seconds(1), .had_served = true};
constexpr ChildEnd kKilledAfterItServed{.lived = seconds(1), .by_signal = true, .had_served = true};

std::vector<int> WaitsOf(const ChildEnd& end, int lives) {
  std::vector<int> waits;
  Duration last{0};
  for (int i = 0; i < lives; ++i) {
    last = RestartWait(last, end);
    waits.push_back(static_cast<int>(std::chrono::duration_cast<milliseconds>(last).count()));
  }
  return waits;
}

TEST(RestartPolicy, WhatFailsAgainAndAgainWaitsLongerEachTime) {
  const std::vector<int> doubling = {100, 200, 400, 800, 1600, 3200, 5000, 5000};
  EXPECT_EQ(WaitsOf(kFailsAtOnce, 8), doubling);
  EXPECT_EQ(WaitsOf(kKilledBeforeItServed, 8), doubling) << "killed for memory while it loads";
  EXPECT_EQ(WaitsOf(kLeftAfterItServed, 8), doubling) << "it ended itself: it has a reason";
}

TEST(RestartPolicy, WhoWasKilledAtItsWorkIsBackWithinHalfASecond) {
  EXPECT_EQ(WaitsOf(kKilledAfterItServed, 6), (std::vector<int>{100, 200, 400, 500, 500, 500}));
  EXPECT_EQ(RestartWait(seconds(5), kKilledAfterItServed), milliseconds(500));
}

TEST(RestartPolicy, ALongLifeForgetsWhatWas) {
  for (ChildEnd end :
       {kFailsAtOnce, kKilledBeforeItServed, kLeftAfterItServed, kKilledAfterItServed}) {
    end.lived = seconds(10);
    EXPECT_EQ(RestartWait(seconds(5), end), milliseconds(100));
    end.lived -= milliseconds(1);
    EXPECT_GT(RestartWait(seconds(5), end), milliseconds(100));
  }
}

}  // namespace
}  // namespace sheaf

#include "base/log_limit.h"

#include "gtest/gtest.h"

namespace sheaf {
namespace {

using std::chrono::seconds;

TEST(LogLimit, ABurstIsSaidAndTheRestIsCounted) {
  LogLimit limit({.burst = 2, .period = seconds(10)});
  TimePoint now(seconds(100));
  const int64_t before = LogLimit::suppressed_total();
  EXPECT_EQ(limit.Say(now), "");
  EXPECT_EQ(limit.Say(now), "");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limit.Say(now), std::nullopt);
  EXPECT_EQ(LogLimit::suppressed_total() - before, 3);
  now += seconds(9);
  EXPECT_EQ(limit.Say(now), std::nullopt) << "the period is not over";
  now += seconds(1);
  EXPECT_EQ(limit.Say(now), " (and 4 lines like this one that were not written)");
  EXPECT_EQ(limit.Say(now), "") << "told once";
}

TEST(LogLimit, WhatComesSlowlyIsAllSaid) {
  LogLimit limit({.burst = 1, .period = seconds(10)});
  for (int i = 0; i < 5; ++i) EXPECT_EQ(limit.Say(TimePoint(seconds(10 * i))), "");
}

}  // namespace
}  // namespace sheaf

// What a worker's own times say about it, and when an answer is late.

#include "exchange/layer/answer_times.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr WorkerId kA(0), kB(1), kC(2);

AnswerTimesOptions NoFixedCost() { return {.fixed_cost = Duration(0)}; }

TEST(AnswerTimes, WithoutAnyAnswerUnitsAreSecondsAndLateIsPatient) {
  const AnswerTimes times(NoFixedCost());
  EXPECT_EQ(times.SecondsPerUnit(kA), 1);
  EXPECT_FALSE(times.Known(kA));
  EXPECT_EQ(times.LateAfter(kA, 10), milliseconds(500));
}

TEST(AnswerTimes, AWorkerThatNobodyAskedIsAsFastAsTheMeanOfTheOthers) {
  AnswerTimes times(NoFixedCost());
  times.Observe(kA, 2, milliseconds(20));
  times.Observe(kB, 2, milliseconds(60));
  EXPECT_DOUBLE_EQ(times.SecondsPerUnit(kA), 0.010);
  EXPECT_DOUBLE_EQ(times.SecondsPerUnit(kB), 0.030);
  EXPECT_DOUBLE_EQ(times.SecondsPerUnit(kC), 0.020);
  EXPECT_EQ(times.Expected(kC, 3), milliseconds(60));
}

TEST(AnswerTimes, LateHasAFloorAndGrowsWithTheWork) {
  AnswerTimes times(NoFixedCost());
  for (int i = 0; i < 100; ++i) times.Observe(kA, 1, milliseconds(1));
  EXPECT_EQ(times.LateAfter(kA, 1), milliseconds(25));
  EXPECT_GE(times.LateAfter(kA, 100), milliseconds(200));
  EXPECT_LT(times.LateAfter(kA, 100), milliseconds(400));
}

TEST(AnswerTimes, UnsteadyTimesMakeLatePatient) {
  AnswerTimes steady(NoFixedCost()), unsteady(NoFixedCost());
  for (int i = 0; i < 200; ++i) {
    steady.Observe(kA, 1, milliseconds(10));
    unsteady.Observe(kA, 1, milliseconds(i % 2 == 0 ? 6 : 14));
  }
  EXPECT_GT(unsteady.LateAfter(kA, 10), steady.LateAfter(kA, 10));
}

TEST(AnswerTimes, OneStallDoesNotSpoilTheEstimate) {
  AnswerTimes times(NoFixedCost());
  for (int i = 0; i < 100; ++i) times.Observe(kA, 1, milliseconds(1));
  times.Observe(kA, 1, seconds(30));
  EXPECT_LT(times.SecondsPerUnit(kA), 0.002);
}

TEST(AnswerTimes, SilenceRaisesAtOnceAndGoodTimesComeBackSoon) {
  AnswerTimes times(NoFixedCost());
  for (int i = 0; i < 100; ++i) times.Observe(kA, 1, milliseconds(1));
  times.ObserveSilence(kA, 1, milliseconds(500));
  EXPECT_NEAR(times.SecondsPerUnit(kA), 0.008, 0.0005);
  times.ObserveSilence(kA, 1, milliseconds(2));  // faster than it is known to be: no news
  EXPECT_NEAR(times.SecondsPerUnit(kA), 0.008, 0.0005);
  int answers = 0;
  while (times.SecondsPerUnit(kA) > 0.002 && answers < 1000) {
    times.Observe(kA, 1, milliseconds(1));
    ++answers;
  }
  EXPECT_LE(answers, 10);
}

TEST(AnswerTimes, TheFixedCostIsNoWork) {
  AnswerTimes times({.fixed_cost = microseconds(100)});
  times.Observe(kA, 1, microseconds(300));
  EXPECT_DOUBLE_EQ(times.SecondsPerUnit(kA), 0.0002);
  EXPECT_EQ(times.Expected(kA, 10), microseconds(2100));
  times.Observe(kB, 1, microseconds(50));  // less than it: still a number
  EXPECT_GT(times.SecondsPerUnit(kB), 0);
}

TEST(AnswerTimes, AnotherProcessBeginsAnew) {
  AnswerTimes times(NoFixedCost());
  times.Observe(kA, 1, milliseconds(100));
  times.Observe(kB, 1, milliseconds(1));
  times.Forget(kA);
  EXPECT_FALSE(times.Known(kA));
  EXPECT_DOUBLE_EQ(times.SecondsPerUnit(kA), 0.001);
}

TEST(AnswerTimes, WhatIsUsualForASickWorkerIsLateBesideTheOthers) {
  AnswerTimes times;
  for (int i = 0; i < 100; ++i) {
    times.Observe(kA, 1, milliseconds(200));
    times.Observe(kB, 1, milliseconds(10));
  }
  EXPECT_LE(times.LateAfter(kA, 1), milliseconds(81));
  EXPECT_LE(times.LateAfter(kB, 1), milliseconds(40)) << "by its own times";
}

}  // namespace
}  // namespace sheaf

#include "router/schedule/queue/wait_estimate.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

constexpr Duration kSecond = std::chrono::seconds(1);
constexpr Duration kMs = std::chrono::milliseconds(1);

class WaitEstimateTest : public ::testing::Test {
 protected:
  // So often `sequences` with 10 tokens each are taken, others wait.
  void Take(int times, int sequences, Duration every) {
    for (int i = 0; i < times; ++i) {
      now_ += every;
      estimate_.Taken(sequences, sequences * 10, true, now_);
    }
  }
  double Seconds(int64_t sequences, int64_t tokens) const {
    return std::chrono::duration<double>(estimate_.TimeToTake(sequences, tokens, now_).value())
        .count();
  }

  WaitEstimate estimate_;
  TimePoint now_{kSecond};
};

TEST_F(WaitEstimateTest, SaysNothingBeforeItHasSeenEnough) {
  EXPECT_FALSE(estimate_.TimeToTake(10, 100, now_).has_value());
  EXPECT_EQ(estimate_.SurelyWaits(1000000, 1000000000, now_), Duration{0});
  EXPECT_EQ(estimate_.SurelyRuns(1000000, 1000000), Duration{0});
  estimate_.Taken(1000, 10000, true, now_);
  EXPECT_FALSE(estimate_.TimeToTake(10, 100, now_).has_value())
      << "into an idle machine: that is no rate";
  Take(WaitEstimate::kFewestTaken, 1, 10 * kMs);
  EXPECT_TRUE(estimate_.TimeToTake(10, 100, now_).has_value());
}

TEST_F(WaitEstimateTest, FollowsTheRateOfTheQueue) {
  Take(1000, 1, 10 * kMs);
  EXPECT_NEAR(Seconds(100, 1000), 1.0, 0.02);
  EXPECT_NEAR(Seconds(200, 1000), 1.0, 0.02) << "the better of both rates";
  EXPECT_NEAR(Seconds(100, 5000), 1.0, 0.02);
  Take(100, 1, kSecond);
  EXPECT_NEAR(Seconds(10, 100), 10, 0.2);
}

TEST_F(WaitEstimateTest, BatchesDoNotConfuseIt) {
  // 64 at once each second: 64 a second, not one in a second.
  Take(60, 64, kSecond);
  EXPECT_NEAR(Seconds(128, 1280), 2.0, 0.1);
}

TEST_F(WaitEstimateTest, AQueueThatStandsStillIsSlow) {
  Take(1000, 1, 10 * kMs);
  now_ += 30 * kSecond;
  EXPECT_GT(Seconds(100, 1000), 10);
}

TEST_F(WaitEstimateTest, IdleTimeSaysNothing) {
  Take(1000, 1, 10 * kMs);
  estimate_.Emptied();
  now_ += 1000 * kSecond;
  EXPECT_NEAR(Seconds(100, 1000), 1.0, 0.02);
  estimate_.Taken(1, 10, true, now_);
  EXPECT_NEAR(Seconds(100, 1000), 1.0, 0.02);
}

TEST_F(WaitEstimateTest, BoundsAreHalfOfWhatIsMeasured) {
  Take(1000, 1, 10 * kMs);
  EXPECT_NEAR(std::chrono::duration<double>(estimate_.SurelyWaits(100, 1000, now_)).count(), 0.5,
              0.02);
  for (int i = 0; i < 20; ++i) estimate_.StepRan(10 * kMs, 100, 1);
  // 10,000 prompt tokens and 100 new ones a second.
  EXPECT_NEAR(std::chrono::duration<double>(estimate_.SurelyRuns(20000, 100)).count(),
              (2.0 + 1.0) / 2, 0.01);
}

TEST_F(WaitEstimateTest, TheBestSpeedIsForgottenWhenItDoesNotComeAgain) {
  for (int i = 0; i < 20; ++i) estimate_.StepRan(1 * kMs, 0, 1);
  EXPECT_NEAR(std::chrono::duration<double>(estimate_.SurelyRuns(0, 1000)).count(), 0.5, 0.01);
  for (int i = 0; i < 20; ++i) estimate_.StepRan(100 * kMs, 0, 1);
  EXPECT_LT(estimate_.SurelyRuns(0, 1000), kSecond) << "a few slow ones prove nothing";
  for (int i = 0; i < 3000; ++i) estimate_.StepRan(100 * kMs, 0, 1);
  EXPECT_NEAR(std::chrono::duration<double>(estimate_.SurelyRuns(0, 1000)).count(), 50, 1);
}

}  // namespace
}  // namespace sheaf

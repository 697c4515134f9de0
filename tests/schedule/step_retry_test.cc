#include "router/schedule/step/step_retry.h"

#include <gtest/gtest.h>

#include "absl/status/status.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;

class StepRetryTest : public ::testing::Test {
 protected:
  // The cluster says ready; when may the next step run, from `now_` on?
  Duration Wait() {
    Duration waited{0};
    while (!retry_.MayStep(absl::OkStatus(), now_ + waited)) {
      const Duration step = retry_.LookAgainIn(now_ + waited);
      EXPECT_GT(step, Duration::zero());
      EXPECT_LE(step, milliseconds(20)) << "looked at often enough";
      waited += step;
    }
    now_ += waited;
    return waited;
  }
  void GiveUp(bool moot = false) {
    const TimePoint began = now_;
    now_ += milliseconds(7);
    retry_.StepGivenUp(absl::UnavailableError("nobody holds expert 5 of layer 3"), moot, began,
                       now_);
  }

  StepRetry retry_{{}};
  TimePoint now_{std::chrono::hours(5)};
};

TEST_F(StepRetryTest, RetriesAtOnceThenWaitsTwiceAsLongEachTime) {
  EXPECT_EQ(Wait(), Duration::zero());
  for (const int ms : {0, 20, 40, 80, 160, 320, 500, 500, 500}) {
    GiveUp();
    EXPECT_EQ(Wait(), milliseconds(ms));
  }
  retry_.StepDone();
  GiveUp();
  EXPECT_EQ(Wait(), Duration::zero()) << "from the beginning";
}

TEST_F(StepRetryTest, AChangeOfTheClusterEndsTheWait) {
  for (int i = 0; i < 20; ++i) GiveUp();
  EXPECT_FALSE(retry_.MayStep(absl::OkStatus(), now_));
  retry_.ClusterChanged();
  EXPECT_TRUE(retry_.MayStep(absl::OkStatus(), now_));
  GiveUp();
  EXPECT_EQ(Wait(), milliseconds(500)) << "a change that does not help does not make it eager";
}

TEST_F(StepRetryTest, AClusterThatComesBackIsTriedAtOnce) {
  for (int i = 0; i < 20; ++i) GiveUp();
  EXPECT_FALSE(retry_.MayStep(absl::UnavailableError("experts are missing"), now_));
  EXPECT_EQ(retry_.LookAgainIn(now_), milliseconds(20));
  EXPECT_EQ(Wait(), Duration::zero());
  GiveUp();
  EXPECT_EQ(Wait(), Duration::zero());
  GiveUp();
  EXPECT_EQ(Wait(), milliseconds(20));
}

TEST_F(StepRetryTest, AMootStepIsNoReasonToWait) {
  for (int i = 0; i < 20; ++i) {
    GiveUp(/*moot=*/true);
    EXPECT_EQ(Wait(), Duration::zero());
  }
  GiveUp();
  GiveUp();
  EXPECT_EQ(Wait(), milliseconds(20));
}

TEST_F(StepRetryTest, StalledFromTheFirstTroubleUntilAStepIsDone) {
  EXPECT_FALSE(retry_.stalled_since().has_value());
  const TimePoint first = now_;
  GiveUp();
  EXPECT_EQ(retry_.stalled_since(), first) << "when the step began";
  EXPECT_EQ(retry_.cause().message(), "nobody holds expert 5 of layer 3");
  now_ += milliseconds(100);
  EXPECT_FALSE(retry_.MayStep(absl::UnavailableError("experts are missing"), now_));
  EXPECT_EQ(retry_.cause().message(), "experts are missing") << "the newest";
  GiveUp();
  EXPECT_EQ(retry_.stalled_since(), first);
  retry_.StepDone();
  EXPECT_FALSE(retry_.stalled_since().has_value());
  EXPECT_TRUE(retry_.cause().ok());

  // Clients that come and go hide no stall.
  const TimePoint moot = now_;
  GiveUp(/*moot=*/true);
  GiveUp(/*moot=*/true);
  EXPECT_EQ(retry_.stalled_since(), moot);
}

}  // namespace
}  // namespace sheaf

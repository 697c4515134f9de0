#include "router/api/grpc/grpc_deadline.h"

#include "gtest/gtest.h"

namespace sheaf {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using SystemTime = CallDeadline::SystemTime;

const SystemTime kNow(hours(24 * 365 * 50));

// By how much the alarm is earlier than a deadline so far away.
milliseconds Margin(milliseconds left) {
  const CallDeadline deadline(kNow, kNow + left);
  EXPECT_TRUE(deadline.ForAlarm().has_value());
  return std::chrono::duration_cast<milliseconds>(kNow + left - *deadline.ForAlarm());
}

TEST(CallDeadline, TheServerIsEarlierByAHundredthWithinBounds) {
  EXPECT_EQ(Margin(seconds(10)), milliseconds(100));
  EXPECT_EQ(Margin(seconds(1)), milliseconds(20));
  EXPECT_EQ(Margin(hours(1)), milliseconds(250));
  EXPECT_EQ(Margin(milliseconds(40)), milliseconds(10));  // half the time is the engine's at least
  EXPECT_EQ(Margin(milliseconds(0)), milliseconds(0));
  EXPECT_EQ(Margin(milliseconds(-50)), milliseconds(0));  // it has passed: at once
}

TEST(CallDeadline, TheEngineIsEarlierStill) {
  const SteadyClock clock;
  const SystemTime now = std::chrono::system_clock::now();
  const CallDeadline deadline(now, now + seconds(100));
  const auto engine = deadline.ForEngine(clock);
  ASSERT_TRUE(engine.has_value());
  // 2 x 250 ms before; what passes between the two clocks' readings is far less than a second.
  const Duration left = *engine - clock.Now();
  EXPECT_LE(left, milliseconds(99500));
  EXPECT_GT(left, milliseconds(98500));
}

TEST(CallDeadline, NoneAndCenturiesAreNone) {
  const SteadyClock clock;
  for (const SystemTime deadline : {SystemTime::max(), kNow + hours(24 * 366)}) {
    const CallDeadline none(kNow, deadline);
    EXPECT_FALSE(none.ForAlarm().has_value());
    EXPECT_FALSE(none.ForEngine(clock).has_value());
    EXPECT_FALSE(none.IsOverAt(kNow + hours(24 * 400)));
  }
}

TEST(CallDeadline, ClientsTimersAreALittleEarly) {
  const CallDeadline deadline(kNow, kNow + seconds(10));
  EXPECT_FALSE(deadline.IsOverAt(kNow + seconds(9)));
  EXPECT_TRUE(deadline.IsOverAt(kNow + milliseconds(9900)));
  EXPECT_TRUE(deadline.IsOverAt(kNow + seconds(11)));
}

}  // namespace
}  // namespace sheaf

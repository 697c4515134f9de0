#include "base/bounded_queue.h"

#include <gtest/gtest.h>

#include <thread>

namespace sheaf {
namespace {

using std::chrono::steady_clock;

TEST(BoundedQueue, RefusesWhenFullAndKeepsOrder) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.TryPush(1));
  EXPECT_TRUE(queue.TryPush(2));
  EXPECT_FALSE(queue.TryPush(3));
  EXPECT_EQ(queue.TryPop(), 1);
  EXPECT_TRUE(queue.TryPush(4));
  EXPECT_EQ(queue.TryPop(), 2);
  EXPECT_EQ(queue.TryPop(), 4);
  EXPECT_EQ(queue.TryPop(), std::nullopt);
}

TEST(BoundedQueue, WaitEndsAtItsDeadline) {
  BoundedQueue<int> queue(1);
  EXPECT_EQ(queue.PopUntil(steady_clock::now() + std::chrono::milliseconds(1)), std::nullopt);
}

TEST(BoundedQueue, CloseWakesTheConsumerAndLetsItDrain) {
  BoundedQueue<int> queue(4);
  ASSERT_TRUE(queue.TryPush(7));
  std::thread closer([&] { queue.Close(); });
  EXPECT_EQ(queue.PopUntil(steady_clock::now() + std::chrono::seconds(30)), 7);
  EXPECT_EQ(queue.PopUntil(steady_clock::now() + std::chrono::seconds(30)), std::nullopt);
  closer.join();
  EXPECT_FALSE(queue.TryPush(8));
}

}  // namespace
}  // namespace sheaf

#include "router/api/generation/preparation_queue.h"

#include <string>

#include "gtest/gtest.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kMiB = 1 << 20;

class PreparationQueueTest : public testing::Test {
 protected:
  bool Push(Duration at, size_t bytes, char name) {
    return queue_.Push(TimePoint(at), bytes, [this, name] { ran_ += name; });
  }
  // Takes and returns all that may be taken, one after another.
  std::string Drain() {
    while (auto taken = queue_.Take()) {
      taken->task();
      queue_.Return(*taken);
    }
    return std::exchange(ran_, {});
  }

  PreparationQueue queue_{{.capacity = 8, .large_bytes = kMiB / 4, .max_large = 1}};
  std::string ran_;
};

TEST_F(PreparationQueueTest, ShortOnesFirstThenInOrderOfComing) {
  Push(milliseconds(0), 8 * kMiB, 'L');
  Push(milliseconds(1), 100, 'a');
  Push(milliseconds(2), kMiB, 'M');
  Push(milliseconds(3), 100, 'b');
  EXPECT_EQ(Drain(), "abML");
}

TEST_F(PreparationQueueTest, ALongOneIsPassedOnlyForATimeThatItsLengthGives) {
  Push(seconds(0), 2 * kMiB, 'L');  // as much as two seconds
  Push(milliseconds(1999), 0, 'a');
  Push(milliseconds(2001), 0, 'b');
  EXPECT_EQ(Drain(), "aLb");
}

TEST_F(PreparationQueueTest, LargeOnesAreNeverOutTogether) {
  Push(seconds(0), kMiB, 'L');
  Push(seconds(0), kMiB, 'M');
  Push(seconds(9), 1, 'a');
  auto large = queue_.Take();
  ASSERT_TRUE(large && large->large);
  auto small = queue_.Take();
  ASSERT_TRUE(small && !small->large) << "another large one is out";
  EXPECT_FALSE(queue_.Take());
  queue_.Return(*small);
  EXPECT_FALSE(queue_.Take());
  queue_.Return(*large);
  large = queue_.Take();
  ASSERT_TRUE(large && large->large);
}

TEST_F(PreparationQueueTest, HoldsSoManyAndNoMore) {
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(Push(seconds(0), i % 2 ? kMiB : 1, 'a'));
  EXPECT_FALSE(Push(seconds(0), 1, 'b'));
  EXPECT_FALSE(Push(seconds(0), kMiB, 'b'));
  EXPECT_EQ(Drain(), "aaaaaaaa");
  EXPECT_TRUE(Push(seconds(0), 1, 'b'));
}

}  // namespace
}  // namespace sheaf

#include "router/api/generation/preparation_queue.h"

#include <string>

#include "gtest/gtest.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Size = PreparationQueue::Size;

constexpr size_t kMiB = 1 << 20;

class PreparationQueueTest : public testing::Test {
 protected:
  bool Push(Duration at, size_t bytes, char name) {
    return queue_.Push(TimePoint(at), bytes, [this, name] { ran_ += name; });
  }
  std::string Drain(PreparationQueue::Size size) {
    while (auto task = queue_.Take(size)) task();
    return std::exchange(ran_, {});
  }

  PreparationQueue queue_{{.capacity = 8, .large_bytes = 4 * kMiB}};
  std::string ran_;
};

TEST_F(PreparationQueueTest, ShortOnesFirstThenInOrderOfComing) {
  Push(milliseconds(0), 3 * kMiB, 'L');
  Push(milliseconds(1), 100, 'a');
  Push(milliseconds(2), kMiB, 'M');
  Push(milliseconds(3), 100, 'b');
  EXPECT_EQ(Drain(Size::kSmall), "abML");
}

TEST_F(PreparationQueueTest, ALongOneIsPassedOnlyForATimeThatItsLengthGives) {
  Push(seconds(0), 2 * kMiB, 'L');  // as much as two seconds
  Push(milliseconds(1999), 0, 'a');
  Push(milliseconds(2001), 0, 'b');
  EXPECT_EQ(Drain(Size::kSmall), "aLb");
}

TEST_F(PreparationQueueTest, LargeOnesHaveALineOfTheirOwn) {
  Push(seconds(0), 6 * kMiB, 'L');
  Push(seconds(0), 5 * kMiB, 'M');
  Push(seconds(9), 1, 'a');
  Push(seconds(9), 4 * kMiB, 'b');
  EXPECT_EQ(Drain(Size::kSmall), "ab");
  EXPECT_EQ(Drain(Size::kLarge), "ML");
}

TEST_F(PreparationQueueTest, HoldsSoManyAndNoMore) {
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(Push(seconds(0), i % 2 ? 5 * kMiB : 1, 'a'));
  EXPECT_FALSE(Push(seconds(0), 1, 'b'));
  EXPECT_FALSE(Push(seconds(0), 5 * kMiB, 'b'));
  EXPECT_EQ(Drain(Size::kSmall), "aaaa");
  EXPECT_TRUE(Push(seconds(0), 5 * kMiB, 'b'));
}

}  // namespace
}  // namespace sheaf

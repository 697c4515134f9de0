#include "base/byte_budget.h"

#include <optional>
#include <utility>
#include <vector>

#include "base/shared_list.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

constexpr ByteBudget::Options kOptions{.total_bytes = 100, .reserve_bytes = 20, .small_bytes = 10};

TEST(ByteBudget, LargeLeasesLeaveTheReserveToSmallOnes) {
  ByteBudget budget(kOptions);
  EXPECT_EQ(budget.max_lease_bytes(), 80u);
  EXPECT_FALSE(budget.TryTake(81));
  auto large = budget.TryTake(80);
  ASSERT_TRUE(large);
  EXPECT_FALSE(budget.TryTake(11));
  std::vector<ByteBudget::Lease> small;
  for (int i = 0; i < 2; ++i) small.push_back(*budget.TryTake(10));
  EXPECT_FALSE(budget.TryTake(1)) << "all of it is taken";
  EXPECT_TRUE(budget.TryTake(0));
  EXPECT_EQ(budget.used_bytes(), 100u);
  large.reset();
  EXPECT_EQ(budget.used_bytes(), 20u);
  EXPECT_TRUE(budget.TryTake(60));
  small.clear();
  EXPECT_EQ(budget.used_bytes(), 0u);
}

TEST(ByteBudget, ALeaseGrowsWhileThereIsRoom) {
  ByteBudget budget(kOptions);
  auto lease = budget.TryTake(0);
  ASSERT_TRUE(lease);
  EXPECT_TRUE(lease->TryGrowTo(50));
  EXPECT_TRUE(lease->TryGrowTo(30)) << "it has more";
  EXPECT_EQ(lease->bytes(), 50u);
  EXPECT_TRUE(lease->TryGrowTo(80));
  EXPECT_FALSE(lease->TryGrowTo(81)) << "it is large and must leave the reserve";
  EXPECT_EQ(budget.used_bytes(), 80u);
}

TEST(ByteBudget, AMovedLeaseIsReturnedOnce) {
  ByteBudget budget(kOptions);
  {
    ByteBudget::Lease lease;
    EXPECT_TRUE(lease.TryGrowTo(1000)) << "of no budget";
    lease = *budget.TryTake(40);
    ByteBudget::Lease other = std::move(lease);
    EXPECT_EQ(other.bytes(), 40u);
    EXPECT_EQ(budget.used_bytes(), 40u);
  }
  EXPECT_EQ(budget.used_bytes(), 0u);
}

TEST(SharedList, CopiesShareTheElements) {
  const SharedList<int> list = {3, 1, 2};
  const SharedList<int> copy = list;
  EXPECT_EQ(copy.data(), list.data());
  EXPECT_EQ(copy, (SharedList<int>{3, 1, 2}));
  EXPECT_NE(copy, (SharedList<int>{3, 1}));
  EXPECT_TRUE(SharedList<int>(std::vector<int>()).empty());
  EXPECT_EQ(SharedList<int>().size(), 0u);
}

}  // namespace
}  // namespace sheaf

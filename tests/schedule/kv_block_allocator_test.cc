#include "router/schedule/blocks/kv_block_allocator.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

TEST(KvBlockAllocator, GivesEachBlockOnceAndTakesItBack) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  KvBlockAllocator allocator(50);
  std::vector<std::vector<int32_t>> owners(8);
  for (int round = 0; round < 5000; ++round) {
    std::vector<int32_t>& owner = owners[random() % owners.size()];
    if (random() % 3 == 0) {
      allocator.Free(owner);
      EXPECT_TRUE(owner.empty());
    } else {
      const int count = static_cast<int>(random() % 10);
      const size_t before = owner.size();
      const bool fits = count <= allocator.num_free();
      EXPECT_EQ(allocator.Allocate(count, owner), fits);
      EXPECT_EQ(owner.size(), before + (fits ? count : 0));
    }
    std::set<int32_t> owned;
    size_t total = 0;
    for (const auto& blocks : owners) {
      owned.insert(blocks.begin(), blocks.end());
      total += blocks.size();
    }
    ASSERT_EQ(owned.size(), total) << "a block has two owners";
    ASSERT_EQ(allocator.num_free(), 50 - static_cast<int>(total));
    if (!owned.empty()) {
      ASSERT_GE(*owned.begin(), 0);
      ASSERT_LT(*owned.rbegin(), 50);
    }
  }
}

TEST(KvBlockAllocator, IsDeterministicAndReusesTheWarmestBlocks) {
  KvBlockAllocator allocator(10);
  std::vector<int32_t> a, b;
  ASSERT_TRUE(allocator.Allocate(3, a));
  ASSERT_TRUE(allocator.Allocate(2, b));
  EXPECT_EQ(a, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(b, (std::vector<int32_t>{3, 4}));
  allocator.Free(a);
  ASSERT_TRUE(allocator.Allocate(4, b));
  EXPECT_EQ(b, (std::vector<int32_t>{3, 4, 0, 1, 2, 5}));
}

TEST(KvBlockAllocatorDeathTest, DoesNotTakeABlockTwice) {
  KvBlockAllocator allocator(4);
  std::vector<int32_t> blocks;
  ASSERT_TRUE(allocator.Allocate(1, blocks));
  std::vector<int32_t> copy = blocks;
  allocator.Free(blocks);
  EXPECT_DEATH(allocator.Free(copy), "freed once");
  std::vector<int32_t> foreign = {4};
  EXPECT_DEATH(allocator.Free(foreign), "comes from Allocate");
}

}  // namespace
}  // namespace sheaf

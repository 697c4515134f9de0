#include "router/schedule/blocks/kv_block_allocator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using Blocks = std::vector<int32_t>;
using ::testing::ElementsAre;

BlockHash Name(uint64_t number) { return {{number, ~number}}; }

TEST(KvBlockAllocator, GivesEachBlockOnceAndTakesItBack) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  KvBlockAllocator allocator(50);
  std::vector<Blocks> owners(8);
  for (int round = 0; round < 5000; ++round) {
    Blocks& owner = owners[random() % owners.size()];
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
  Blocks a, b;
  ASSERT_TRUE(allocator.Allocate(3, a));
  ASSERT_TRUE(allocator.Allocate(2, b));
  EXPECT_EQ(a, (Blocks{0, 1, 2}));
  EXPECT_EQ(b, (Blocks{3, 4}));
  allocator.Free(a);
  ASSERT_TRUE(allocator.Allocate(4, b));
  EXPECT_EQ(b, (Blocks{3, 4, 0, 1, 2, 5}));
}

TEST(KvBlockAllocator, WhatHasANameIsFoundAndSharedUntilItIsNeeded) {
  KvBlockAllocator allocator(4);
  Blocks a, b;
  ASSERT_TRUE(allocator.Allocate(2, a));
  EXPECT_EQ(allocator.Find(Name(1)), -1);
  EXPECT_EQ(allocator.Publish(a[0], Name(1)), a[0]);
  EXPECT_EQ(allocator.Find(Name(1)), a[0]);
  allocator.Share(a[0]);
  b.push_back(a[0]);
  EXPECT_EQ(allocator.num_owners(a[0]), 2);
  const int32_t named = a[0];
  allocator.Free(a);
  EXPECT_EQ(allocator.num_free(), 3) << "the other owner keeps it";
  allocator.Free(b);
  EXPECT_EQ(allocator.num_free(), 4) << "idle blocks can be had";
  EXPECT_EQ(allocator.Find(Name(1)), named);
  std::vector<KvBlockAllocator::Evicted> evicted;
  ASSERT_TRUE(allocator.Allocate(3, a, &evicted));
  EXPECT_TRUE(evicted.empty()) << "free ones first";
  EXPECT_EQ(allocator.Find(Name(1)), named);
  ASSERT_TRUE(allocator.Allocate(1, a, &evicted));
  ASSERT_EQ(evicted.size(), 1u);
  EXPECT_EQ(evicted[0].block, named);
  EXPECT_EQ(evicted[0].name, Name(1));
  EXPECT_EQ(allocator.Find(Name(1)), -1);
  EXPECT_EQ(allocator.num_evicted(), 1u);
}

TEST(KvBlockAllocator, EvictsTheEndsOfTheChainsUsedLongestAgo) {
  KvBlockAllocator allocator(6);
  Blocks old_chain, new_chain;
  ASSERT_TRUE(allocator.Allocate(3, old_chain));
  ASSERT_TRUE(allocator.Allocate(3, new_chain));
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(allocator.Publish(old_chain[i], Name(10 + i)), old_chain[i]);
    EXPECT_EQ(allocator.Publish(new_chain[i], Name(20 + i)), new_chain[i]);
  }
  allocator.Free(old_chain);
  allocator.Free(new_chain);
  // The old chain's first block is used once more: it becomes the youngest of all.
  Blocks again = {allocator.Find(Name(10))};
  allocator.Share(again[0]);
  allocator.Free(again);
  std::vector<KvBlockAllocator::Evicted> evicted;
  Blocks blocks;
  ASSERT_TRUE(allocator.Allocate(6, blocks, &evicted));
  std::vector<uint64_t> order;
  for (const auto& each : evicted) order.push_back(each.name.words[0]);
  EXPECT_THAT(order, ElementsAre(12, 11, 22, 21, 20, 10));
}

TEST(KvBlockAllocator, ASecondBlockOfTheSameContentIsGivenUpForTheFirst) {
  KvBlockAllocator allocator(4);
  Blocks a, b;
  ASSERT_TRUE(allocator.Allocate(1, a));
  ASSERT_TRUE(allocator.Allocate(1, b));
  ASSERT_EQ(allocator.Publish(a[0], Name(1)), a[0]);
  b[0] = allocator.Publish(b[0], Name(1));
  EXPECT_EQ(b, a);
  EXPECT_EQ(allocator.num_free(), 3);
  EXPECT_EQ(allocator.num_named(), 1);
  allocator.Free(a);
  allocator.Free(b);
  EXPECT_EQ(allocator.num_free(), 4);
}

TEST(KvBlockAllocator, ForgettingNamesTakesNoBlockFromItsOwners) {
  KvBlockAllocator allocator(4);
  Blocks a, b;
  ASSERT_TRUE(allocator.Allocate(2, a));
  ASSERT_TRUE(allocator.Allocate(1, b));
  ASSERT_EQ(allocator.Publish(a[0], Name(1)), a[0]);
  ASSERT_EQ(allocator.Publish(b[0], Name(2)), b[0]);
  allocator.Free(b);
  allocator.ForgetNames();
  EXPECT_EQ(allocator.Find(Name(1)), -1);
  EXPECT_EQ(allocator.Find(Name(2)), -1);
  EXPECT_EQ(allocator.num_named(), 0);
  EXPECT_EQ(allocator.num_free(), 2);
  EXPECT_EQ(allocator.num_evicted(), 0u);
  EXPECT_EQ(allocator.num_forgotten(), 2u);
  ASSERT_TRUE(allocator.Allocate(2, b));
  EXPECT_EQ((std::set<int32_t>{a[0], a[1], b[0], b[1]}), (std::set<int32_t>{0, 1, 2, 3}));
}

TEST(KvBlockAllocatorDeathTest, DoesNotMixOwners) {
  KvBlockAllocator allocator(4);
  Blocks blocks;
  ASSERT_TRUE(allocator.Allocate(2, blocks));
  EXPECT_DEATH(allocator.Share(blocks[0]), "only a block with a name");
  ASSERT_EQ(allocator.Publish(blocks[0], Name(1)), blocks[0]);
  allocator.Share(blocks[0]);
  EXPECT_DEATH((void)allocator.Publish(blocks[0], Name(2)), "by its only owner");
  Blocks copy = blocks;
  allocator.Free(blocks);
  EXPECT_DEATH(allocator.Free(copy), "freed once by each owner");
  Blocks foreign = {4};
  EXPECT_DEATH(allocator.Free(foreign), "comes from Allocate");
}

}  // namespace
}  // namespace sheaf

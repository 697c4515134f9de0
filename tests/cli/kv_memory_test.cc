#include "cli/process/kv_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sheaf {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

MemoryLimits Limits(int64_t bytes, int64_t free_bytes) {
  return {static_cast<uint64_t>(bytes), static_cast<uint64_t>(free_bytes), "the limit in /m.max"};
}

TEST(KvMemory, TheReserveGrowsWithTheMachine) {
  EXPECT_EQ(MemoryReserve(200 * kMiB), 64u * kMiB);
  EXPECT_EQ(MemoryReserve(16 * kGiB), 1u * kGiB);
  EXPECT_EQ(MemoryReserve(2048 * kGiB), 4u * kGiB);
}

TEST(KvMemory, WhatFitsIsTaken) {
  const MemoryLimits limits = Limits(16 * kGiB, 2 * kGiB);
  EXPECT_EQ(*KvMemory(1, 0, limits), 1);
  // Of memory that others have now and may give back: 16 - 1 - 5.
  EXPECT_EQ(*KvMemory(10 * kGiB, 5 * kGiB, limits), 10 * kGiB);
  EXPECT_FALSE(KvMemory(10 * kGiB + 1, 5 * kGiB, limits).ok());
  EXPECT_EQ(*KvMemory(200 * 1024 * kGiB, 5 * kGiB, MemoryLimits{}), 200 * 1024 * kGiB)
      << "nothing is known";
}

TEST(KvMemory, ARefusalNamesEverything) {
  const absl::Status status = KvMemory(kGiB, 20 * kMiB, Limits(200 * kMiB, 180 * kMiB)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  for (const char* part :
       {"--kv-cache-memory-bytes", "wanted 1024 MiB", "the limit in /m.max is 200", "180 MiB free",
        "weights take 20 MiB", "64 MiB are kept", "116 MiB are left"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
  EXPECT_FALSE(KvMemory(200 * 1024 * kGiB, 0, Limits(64 * kGiB, 64 * kGiB)).ok());
  EXPECT_FALSE(KvMemory(1, 300 * kMiB, Limits(200 * kMiB, 180 * kMiB)).ok()) << "weights alone";
}

TEST(KvMemory, AutoIsWhatIsFreeLessTheRest) {
  EXPECT_EQ(*KvMemory(kAutoKvMemory, 5 * kGiB, Limits(16 * kGiB, 12 * kGiB)), 6 * kGiB);
  EXPECT_FALSE(KvMemory(kAutoKvMemory, 5 * kGiB, Limits(16 * kGiB, 6 * kGiB)).ok());
  EXPECT_FALSE(KvMemory(kAutoKvMemory, 0, MemoryLimits{}).ok());
}

MemoryLimits Node(int number, int64_t bytes) {
  return {static_cast<uint64_t>(bytes), static_cast<uint64_t>(bytes),
          "NUMA node " + std::to_string(number) + "'s memory"};
}

TEST(KvMemoryOnNodes, EveryNodeMustHoldWhatIsBoundToIt) {
  // 1 GiB of 16 is kept. Rank 0 and workers 0, 2 on the first node, rank 1 and worker 1 on the
  // other.
  const ServerWeights weights{.rank_bytes = 2 * kGiB,
                              .worker_bytes = {4 * kGiB, 5 * kGiB, 3 * kGiB},
                              .kv_share = 0.5};
  const std::vector<NodeLoad> loads = {{Node(0, 16 * kGiB), 1, {0, 2}},
                                       {Node(1, 16 * kGiB), 1, {1}}};
  EXPECT_EQ(*KvMemoryOnNodes(12 * kGiB, weights, loads), 12 * kGiB) << "6 GiB on each";
  const absl::Status status = KvMemoryOnNodes(13 * kGiB, weights, loads).status();
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("wanted 6656 MiB, but NUMA node 0's memory is 16384 MiB"));
  EXPECT_EQ(*KvMemoryOnNodes(kAutoKvMemory, weights, loads), 12 * kGiB) << "the tighter node";
  const std::vector<NodeLoad> uneven = {{Node(0, 64 * kGiB), 1, {0, 2}},
                                        {Node(1, 16 * kGiB), 1, {1}}};
  EXPECT_EQ(*KvMemoryOnNodes(kAutoKvMemory, weights, uneven), 16 * kGiB) << "8 GiB on node 1";
}

TEST(KvMemoryOnNodes, WorkersAloneMustFitToo) {
  const ServerWeights weights{.rank_bytes = kGiB, .worker_bytes = {kGiB, 15 * kGiB + 1}};
  const std::vector<NodeLoad> loads = {{Node(0, 16 * kGiB), 1, {0}}, {Node(1, 16 * kGiB), 0, {1}}};
  EXPECT_THAT(std::string(KvMemoryOnNodes(kGiB, weights, loads).status().message()),
              HasSubstr("--numa: the workers on it take 15360 MiB of weights, but NUMA node 1's"));
  const ServerWeights fits{.rank_bytes = kGiB, .worker_bytes = {kGiB, 15 * kGiB}};
  EXPECT_EQ(*KvMemoryOnNodes(kGiB, fits, loads), kGiB);
  EXPECT_EQ(*KvMemoryOnNodes(kAutoKvMemory, fits, loads), 13 * kGiB);
}

}  // namespace
}  // namespace sheaf

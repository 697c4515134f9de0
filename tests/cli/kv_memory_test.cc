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
  for (const char* part : {"--kv-cache-memory-bytes", "wanted 1024 MiB", "the limit in /m.max is 200",
                           "180 MiB free", "weights take 20 MiB", "64 MiB are kept",
                           "116 MiB are left"}) {
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

}  // namespace
}  // namespace sheaf

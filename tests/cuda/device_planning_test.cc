// The pure parts of the device's engine: how memory is divided, how a batch is cut, which parts of
// a block are free.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/exchange/test_seed.h"
#include "worker/device/batch_parts.h"
#include "worker/device/device_memory_plan.h"
#include "worker/device/device_space.h"

namespace sheaf {
namespace {

DeviceMemoryRequest GlmOn(uint64_t free_bytes) {
  DeviceMemoryRequest request;
  request.device = "cuda:0 (a GPU)";
  request.free_bytes = free_bytes;
  request.total_bytes = free_bytes + (uint64_t{1} << 30);
  request.expert_bytes = uint64_t{12} << 20;
  request.layer.hidden = 5120;
  request.layer.intermediate = 1536;
  request.layer.jobs = 160;
  request.plan_bytes = [](const DeviceBatchShape& shape) {
    return static_cast<size_t>(64 * shape.jobs + 8 * shape.pairs);
  };
  request.workspace_bytes = [](const DeviceBatchShape& shape) {
    return size_t{4} * static_cast<size_t>(shape.pairs) * static_cast<size_t>(shape.intermediate);
  };
  return request;
}

TEST(DeviceMemoryPlanTest, ALargeDeviceHasLargePartsAndTheRestIsForExperts) {
  const DeviceMemoryRequest request = GlmOn(uint64_t{139} << 30);
  const auto plan = PlanDeviceMemory(request);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->part.rows, DeviceMemoryPlan::kMostRows);
  EXPECT_LE(plan->expert_bytes + plan->buffer_bytes, request.free_bytes - (uint64_t{512} << 20));
  EXPECT_GT(plan->expert_bytes, uint64_t{138} << 30);
  EXPECT_LT(plan->pinned_bytes, uint64_t{1} << 30);
}

TEST(DeviceMemoryPlanTest, WhateverTheMemoryItIsNeverExceeded) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  int plans = 0;
  for (int i = 0; i < 500; ++i) {
    DeviceMemoryRequest request = GlmOn(uint64_t{1} << (20 + random() % 20));
    request.layer.hidden = 128 * (1 + static_cast<int>(random() % 60));
    request.layer.jobs = 1 + static_cast<int>(random() % 256);
    if (random() % 2 == 0) request.memory_bytes = 1 + random() % (2 * request.free_bytes);
    const auto plan = PlanDeviceMemory(request);
    if (!plan.ok()) {
      EXPECT_EQ(plan.status().code(), absl::StatusCode::kResourceExhausted);
      continue;
    }
    ++plans;
    const uint64_t bound = request.memory_bytes > 0 ? request.memory_bytes : request.free_bytes;
    EXPECT_LE(plan->expert_bytes + plan->buffer_bytes, bound);
    EXPECT_GE(plan->expert_bytes, request.expert_bytes / 256 * 256);
    EXPECT_GE(plan->part.pairs, request.layer.jobs) << "one token may go to all of them";
    EXPECT_GE(plan->part.rows, DeviceMemoryPlan::kFewestRows);
    EXPECT_GE(plan->in_bytes, DeviceRowsLayout(plan->part.rows, request.layer.hidden,
                                               request.plan_bytes(plan->part))
                                  .bytes);
  }
  EXPECT_GT(plans, 50);
}

TEST(BatchPartsTest, EveryPairOnceInOrderAndWithinBounds) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    const int tokens = 1 + static_cast<int>(random() % 50);
    const int experts = 1 + static_cast<int>(random() % 8);
    std::vector<std::vector<int32_t>> rows(static_cast<size_t>(experts));
    size_t pairs = 0;
    for (auto& of_expert : rows) {
      for (int row = 0; row < tokens; ++row) {
        if (random() % 3 == 0) of_expert.push_back(row);
      }
      pairs += of_expert.size();
    }
    std::vector<HeldExpertJob> jobs;
    for (const auto& of_expert : rows) jobs.push_back({nullptr, of_expert});
    ExpertBatch batch;
    batch.x.num_rows = tokens;
    batch.jobs = jobs;
    const int most_rows = 1 + static_cast<int>(random() % 20);
    const int most_pairs = experts + static_cast<int>(random() % 20);
    std::vector<size_t> next(rows.size(), 0);
    size_t seen = 0;
    int row = 0;
    for (const BatchPart& part : CutBatch(batch, most_rows, most_pairs)) {
      ASSERT_GE(part.first_row, row);
      row = part.first_row + part.num_rows;
      ASSERT_LE(row, tokens);
      ASSERT_LE(part.num_rows, most_rows);
      ASSERT_LE(part.num_pairs, most_pairs);
      int in_part = 0;
      for (const BatchPart::Run& run : part.runs) {
        const size_t job = static_cast<size_t>(run.job);
        ASSERT_EQ(static_cast<size_t>(run.begin), next[job]);
        next[job] += static_cast<size_t>(run.count);
        in_part += run.count;
        for (size_t i = static_cast<size_t>(run.begin); i < next[job]; ++i) {
          ASSERT_GE(rows[job][i], part.first_row);
          ASSERT_LT(rows[job][i], row);
        }
      }
      ASSERT_EQ(in_part, part.num_pairs);
      seen += static_cast<size_t>(in_part);
    }
    ASSERT_EQ(seen, pairs);
  }
}

TEST(DeviceSpaceTest, NothingTwiceAndEverythingComesBack) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  constexpr uint64_t kBytes = 100 * 256;
  DeviceSpace space(kBytes + 100);
  std::map<uint64_t, uint64_t> taken;
  uint64_t used = 0;
  for (int i = 0; i < 5000; ++i) {
    if (!taken.empty() && random() % 2 == 0) {
      auto which = std::next(taken.begin(), static_cast<ptrdiff_t>(random() % taken.size()));
      space.GiveBack(which->first, which->second);
      used -= (which->second + 255) / 256 * 256;
      taken.erase(which);
    } else {
      const uint64_t bytes = 1 + random() % (20 * 256);
      const auto at = space.Take(bytes);
      if (!at.has_value()) continue;
      ASSERT_EQ(*at % 256, 0u);
      ASSERT_LE(*at + bytes, kBytes);
      const auto after = taken.lower_bound(*at);
      ASSERT_TRUE(after == taken.end() || *at + bytes <= after->first);
      if (after != taken.begin()) {
        const auto before = std::prev(after);
        ASSERT_LE(before->first + before->second, *at);
      }
      taken[*at] = bytes;
      used += (bytes + 255) / 256 * 256;
    }
    ASSERT_EQ(space.free_bytes(), kBytes - used);
  }
  for (const auto& [at, bytes] : taken) space.GiveBack(at, bytes);
  EXPECT_EQ(space.Take(kBytes), 0u) << "all gaps have joined";
  EXPECT_FALSE(space.Take(1).has_value());
}

}  // namespace
}  // namespace sheaf

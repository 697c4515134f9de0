#include "kernels/experts/expert_plan_cuda.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "kernels/experts/expert_ffn_cuda.h"
#include "kernels/experts/expert_memory_cuda.h"
#include "tests/kernels/random_weights.h"

namespace sheaf::kernels::cuda {
namespace {

DeviceExpert ExpertOf(int hidden, int intermediate) {
  DeviceExpert expert;
  expert.gate.n = expert.up.n = expert.down.k = intermediate;
  expert.gate.k = expert.up.k = expert.down.n = hidden;
  return expert;
}

constexpr ExpertBatchShape kShape = {
    .hidden = 600, .intermediate = 200, .max_tokens = 10, .max_jobs = 3, .max_rows = 100};

class ExpertPlanTest : public testing::Test {
 protected:
  absl::Status Plan(const std::vector<ExpertBatchJob>& jobs, int num_tokens = 10) {
    bytes_.assign(ExpertPlanLayout(kShape).bytes, std::byte{0xff});
    return PlanExperts(kShape, num_tokens, jobs, bytes_, head_);
  }
  std::vector<PlannedTile> Tiles(PlanList list) const {
    std::vector<PlannedTile> tiles(head_.tiles[list]);
    std::memcpy(tiles.data(), bytes_.data() + ExpertPlanLayout(kShape).tiles[list],
                tiles.size() * sizeof(PlannedTile));
    return tiles;
  }

  DeviceExpert expert_ = ExpertOf(600, 200);
  std::vector<std::byte> bytes_;
  PlanHead head_;
};

TEST_F(ExpertPlanTest, TilesOfFewAndManyRows) {
  const std::vector<int32_t> few(16, 1), many(65, 2);
  ASSERT_TRUE(Plan({{&expert_, few}, {&expert_, {}}, {&expert_, many}}).ok());
  EXPECT_EQ(head_.num_jobs, 2);
  EXPECT_EQ(head_.num_rows, 81);
  EXPECT_EQ(head_.part_bytes, 1024 + 32);
  EXPECT_EQ(head_.tiles[kFewInner], 2);   // 200 = 128 + 72
  EXPECT_EQ(head_.tiles[kFewOutput], 3);  // 600 = 256 + 256 + 88
  EXPECT_EQ(head_.tiles[kManyInner], 4);  // 65 = 64 + 1
  EXPECT_EQ(head_.tiles[kManyOutput], 6);
  const std::vector<PlannedTile> tiles = Tiles(kManyInner);
  const int expected[4][2] = {{0, 0}, {0, 64}, {1, 0}, {1, 64}};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(tiles[i].job, 1);
    EXPECT_EQ(tiles[i].chunk, expected[i][0]);
    EXPECT_EQ(tiles[i].row, expected[i][1]);
  }
}

TEST_F(ExpertPlanTest, EveryBatchOfTheShapeFits) {
  for (int rows : {1, 16, 17, 64, 65, 98}) {
    for (int others : {0, 1}) {
      const std::vector<int32_t> all(rows, 0), one(others, 0);
      ASSERT_TRUE(Plan({{&expert_, all}, {&expert_, one}, {&expert_, one}}).ok());
      const ExpertPlanLayout layout(kShape);
      for (int list = 0; list < kPlanLists; ++list) {
        const size_t end = list + 1 == kPlanLists ? layout.bytes : layout.tiles[list + 1];
        EXPECT_LE(layout.tiles[list] + sizeof(PlannedTile) * head_.tiles[list], end) << list;
      }
    }
  }
}

// Launches that were captured once serve what comes later: of random batches of the shape, all are
// covered.
TEST_F(ExpertPlanTest, TheLargestHeadCoversEveryBatchOfTheShape) {
  std::mt19937 random(11);
  const std::vector<int32_t> one(1, 0);
  ASSERT_TRUE(Plan({{&expert_, one}}).ok());
  const PlanHead largest = LargestHead(kShape, head_);
  EXPECT_EQ(largest.tiles[kManyInner], 0) << "no job has more than the ten tokens";
  EXPECT_EQ(largest.tiles[kFewInner], 3 * 2);
  EXPECT_EQ(largest.tiles[kFewOutput], 3 * 3);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::vector<int32_t>> rows(1 + random() % 3);
    std::vector<ExpertBatchJob> jobs;
    for (auto& of_job : rows) {
      for (int row = 0; row < 10; ++row) {
        if (random() % 2 == 0) of_job.push_back(row);
      }
      jobs.push_back({&expert_, of_job});
    }
    ASSERT_TRUE(Plan(jobs).ok());
    EXPECT_TRUE(Covers(largest, head_));
  }
  // A token that a job has twice is not foreseen, and seen.
  const std::vector<int32_t> many(20, 0);
  ASSERT_TRUE(Plan({{&expert_, many}}).ok());
  EXPECT_FALSE(Covers(largest, head_));
  EXPECT_TRUE(Covers(LargestHead(kShape, head_), head_));
  PlanHead wider = head_ = {};
  wider.part_bytes = 1;
  EXPECT_FALSE(Covers(head_, wider)) << "experts with more scales";
}

TEST_F(ExpertPlanTest, WhatDoesNotFitIsRefused) {
  const std::vector<int32_t> row = {0}, too_many(101, 0), outside = {10}, negative = {-1};
  EXPECT_TRUE(absl::IsInvalidArgument(Plan({{&expert_, too_many}})));
  EXPECT_TRUE(absl::IsInvalidArgument(Plan({{&expert_, outside}})));
  EXPECT_TRUE(absl::IsInvalidArgument(Plan({{&expert_, negative}})));
  EXPECT_TRUE(absl::IsInvalidArgument(Plan({{&expert_, row}}, 11)));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Plan({{&expert_, row}, {&expert_, row}, {&expert_, row}, {&expert_, row}})));
  const DeviceExpert other = ExpertOf(600, 328);
  EXPECT_TRUE(absl::IsInvalidArgument(Plan({{&other, row}})));
  DeviceExpert permuted = expert_;
  const int32_t order = 0;
  permuted.down.permutation = &order;
  EXPECT_TRUE(absl::IsInvalidArgument(Plan({{&permuted, row}})));
  DeviceExpert strange = expert_;
  strange.up.segment = 256;
  EXPECT_TRUE(absl::IsInvalidArgument(Plan({{&strange, row}})));
}

// Pieces cover every tensor once, none larger than asked for, codes in whole tiles.
TEST(ExpertMemoryTest, PiecesAndPlaces) {
  std::mt19937 random(7);
  const IntegerOptions wide = {
      .n = 136, .k = 300, .segment = 64, .zeros = true, .permutation = true, .bias = true};
  IntegerOptions down = {.n = 300, .k = 136, .scale_format = ScaleFormat::kF32};
  const RandomLinear gate(random, wide), up(random, wide), last(random, down);
  ExpertWeights weights = {gate.linear(), up.linear(), last.linear()};
  const absl::StatusOr<ExpertMemory> memory = ExpertMemory::Plan(weights);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_TRUE(memory->permuted());
  EXPECT_EQ(memory->hidden(), 300);
  EXPECT_EQ(memory->intermediate(), 136);
  EXPECT_EQ(memory->bytes() % 256, 0u);
  std::vector<std::byte> block(memory->bytes());
  size_t bytes = 0;
  for (const ExpertPiece& piece : memory->Pieces(weights, 3000)) {
    EXPECT_LE(piece.bytes, 3000u);
    EXPECT_TRUE(!piece.codes || piece.bytes % kTileBytes == 0);
    ASSERT_LE(piece.at + piece.bytes, block.size());
    std::memcpy(block.data() + piece.at, piece.host, piece.bytes);
    bytes += piece.bytes;
  }
  EXPECT_LE(bytes, memory->bytes());
  const DeviceExpert expert = memory->At(block.data());
  const auto same = [](const DeviceMatrix& device, const Linear& linear) {
    const PackedW4& w = linear.w4;
    return std::memcmp(device.codes, w.codes, w.code_bytes()) == 0 &&
           std::memcmp(device.scales, w.scales, w.scale_count() * ScaleBytes(w.scale_format)) ==
               0 &&
           (w.zeros == nullptr) == (device.zeros == nullptr) &&
           (w.zeros == nullptr || std::memcmp(device.zeros, w.zeros, w.scale_count()) == 0) &&
           (linear.bias == nullptr) == (device.bias == nullptr) &&
           (linear.bias == nullptr || std::memcmp(device.bias, linear.bias, 4 * w.n) == 0) &&
           (w.permutation == nullptr) == (device.permutation == nullptr) &&
           (w.permutation == nullptr ||
            std::memcmp(device.permutation, w.permutation, 4 * w.k) == 0);
  };
  EXPECT_TRUE(same(expert.gate, weights.gate));
  EXPECT_TRUE(same(expert.up, weights.up));
  EXPECT_TRUE(same(expert.down, weights.down));
  EXPECT_NE(expert.gate.permutation, expert.up.permutation);

  // The same order in another array is shared.
  const std::vector<int32_t> copy(weights.gate.w4.permutation, weights.gate.w4.permutation + 300);
  weights.up.w4.permutation = copy.data();
  const absl::StatusOr<ExpertMemory> shared = ExpertMemory::Plan(weights);
  ASSERT_TRUE(shared.ok());
  EXPECT_EQ(memory->bytes() - shared->bytes(), 1280u);
  EXPECT_EQ(shared->At(block.data()).gate.permutation, shared->At(block.data()).up.permutation);
}

TEST(ExpertMemoryTest, OtherStoragesAreNamed) {
  std::mt19937 random(7);
  const RandomLinear four(random, IntegerOptions{}), eight(random, IntegerOptions{.bits = 8}),
      floats(random, DenseOptions{});
  const absl::Status wide =
      ExpertMemory::Plan({four.linear(), eight.linear(), four.linear()}).status();
  EXPECT_TRUE(absl::IsUnimplemented(wide));
  EXPECT_EQ(wide.message(),
            "an expert's up is stored as 8-bit integers: CUDA kernels are for 4-bit experts");
  EXPECT_TRUE(absl::IsUnimplemented(
      ExpertMemory::Plan({four.linear(), four.linear(), floats.linear()}).status()));
}

TEST(DeviceTileTest, TheOrderIsThatOfTheFragments) {
  std::set<int> seen;
  for (int i = 0; i < kTileWords; ++i) seen.insert(DeviceWord(i));
  EXPECT_EQ(seen.size(), size_t{kTileWords});
  EXPECT_EQ(*seen.rbegin(), kTileWords - 1);
  // Step 6 = 4 * 1 + 2, row 13 = 5 + 8: half 0, lane 4 * 5 + 2 = 22, second step of the half,
  // second row.
  EXPECT_EQ(DeviceWord(6 * 16 + 13), 0 * 128 + 22 * 4 + 1 * 2 + 1);
  EXPECT_EQ(DeviceWord(15 * 16 + 0), 1 * 128 + 3 * 4 + 1 * 2 + 0);
}

TEST(RingTest, TheEmulatedDeviceHasLimits) {
  DeviceLimits limits{.processors = 0, .block_shared_bytes = 0, .processor_shared_bytes = 0};
  ASSERT_EQ(ReadDeviceLimits(limits), 0);
  ASSERT_EQ(PrepareExpertKernels(limits), 0);
  EXPECT_GE(limits.processors, 1);
  EXPECT_EQ(limits.block_shared_bytes, 99u * 1024);
  EXPECT_GT(limits.processor_shared_bytes, limits.block_shared_bytes);
}

TEST(RingTest, FitsTheDevice) {
  for (const size_t kib : {99, 163, 227}) {
    for (int tiles : {kFewTiles, kManyTiles}) {
      for (int part :
           {PartBytes(128, ScaleFormat::kF16, false), PartBytes(32, ScaleFormat::kF32, true)}) {
        const DeviceLimits limits = {.block_shared_bytes = kib * 1024,
                                     .processor_shared_bytes = (kib + 1) * 1024};
        int blocks = 0;
        const RingShape ring = ChooseRing(limits, tiles, part, blocks);
        EXPECT_GE(ring.stages, 2);
        EXPECT_LE(ring.stages, kMaxStages);
        EXPECT_LE(ring.shared_bytes(), limits.block_shared_bytes);
        EXPECT_LE(blocks * (ring.shared_bytes() + 1024), limits.processor_shared_bytes);
      }
    }
  }
}

}  // namespace
}  // namespace sheaf::kernels::cuda

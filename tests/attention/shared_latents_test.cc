// What ranks share of latent attention by position: the parts of a block, the best positions of
// all, the records of the positions that were chosen.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "kernels/attention/top_positions.h"
#include "router/attention/latent/gathered_latents.h"
#include "router/attention/latent/kept_slots.h"
#include "router/attention/latent/position_candidates.h"
#include "tests/exchange/gather/in_process_ranks.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::RandomSeed;

TEST(KeptSlots, EachPositionIsOneRanksAndHasItsNumberThere) {
  for (const int block_size : {1, 2, 7, 8, 16}) {
    for (int num_ranks = 1; num_ranks <= block_size; ++num_ranks) {
      const std::vector<KeptSlots> slots = SlotsOfRanks(block_size, num_ranks);
      std::vector<int> kept(slots.size());
      for (int position = 0; position < 5 * block_size + 3; ++position) {
        int owners = 0;
        for (size_t rank = 0; rank < slots.size(); ++rank) {
          ASSERT_EQ(slots[rank].Count(position), kept[rank]);
          if (!slots[rank].Has(position)) continue;
          ++owners;
          ASSERT_EQ(slots[rank].LocalOf(position), kept[rank]);
          ASSERT_EQ(slots[rank].PositionOf(kept[rank]), position);
          ++kept[rank];
        }
        ASSERT_EQ(owners, 1);
      }
    }
  }
}

TEST(KeptSlots, PartsOfABlockDifferByOneAtMost) {
  const std::vector<KeptSlots> slots = SlotsOfRanks(16, 3);
  EXPECT_EQ(slots[0].count, 5);
  EXPECT_EQ(slots[1].count, 5);
  EXPECT_EQ(slots[2].count, 6);
}

std::span<const uint8_t> BytesOf(const std::vector<PositionCandidate>& candidates) {
  return {reinterpret_cast<const uint8_t*>(candidates.data()),
          candidates.size() * sizeof(candidates[0])};
}

// Few different scores, so that many are equal, and what has no order.
TEST(PositionCandidates, TheBestOfTheRanksBestAreTheBestOfAll) {
  const uint64_t seed = RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const float values[] = {0.0f, -0.0f, 1, 2, -1, std::nanf(""), INFINITY, -INFINITY};
  for (int round = 0; round < 200; ++round) {
    const int num_ranks = 1 + static_cast<int>(random() % 8), block_size = 8 + random() % 9;
    const int positions = 1 + static_cast<int>(random() % 300);
    const int topk = 1 + static_cast<int>(random() % positions);
    std::vector<float> scores(positions);
    for (float& score : scores)
      score = random() % 3 ? values[random() % 8] : float(random() % 1000);
    std::vector<int32_t> wanted(topk);
    kernels::TopPositions(scores.data(), positions, topk, wanted.data());

    MergeScratch scratch;
    for (const KeptSlots& slots : SlotsOfRanks(block_size, num_ranks)) {
      std::vector<float> own;
      for (int position = 0; position < positions; ++position) {
        if (slots.Has(position)) own.push_back(scores[position]);
      }
      std::vector<int32_t> places(std::min<size_t>(own.size(), topk));
      kernels::TopPositions(own.data(), own.size(), places.size(), places.data());
      std::vector<PositionCandidate> candidates;
      for (const int32_t place : places)
        candidates.push_back({own[place], slots.PositionOf(place)});
      ASSERT_TRUE(AddCandidates(BytesOf(candidates), slots, positions - 1, scratch));
    }
    std::vector<int32_t> chosen(topk);
    BestOfCandidates(topk, scratch, chosen.data());
    ASSERT_EQ(chosen, wanted) << round;
  }
}

TEST(PositionCandidates, WhatARankCannotHaveIsRefused) {
  const KeptSlots slots = SlotsOfRank(8, 1, 2);  // 4..7 of each block
  const auto takes = [&](const std::vector<PositionCandidate>& candidates) {
    MergeScratch scratch;
    return AddCandidates(BytesOf(candidates), slots, 14, scratch);
  };
  EXPECT_TRUE(takes({}));
  EXPECT_TRUE(takes({{0, 4}, {0, 7}, {0, 12}, {0, 14}}));
  EXPECT_FALSE(takes({{0, 3}}));   // another rank's
  EXPECT_FALSE(takes({{0, 15}}));  // later than the row
  EXPECT_FALSE(takes({{0, -4}}));
  EXPECT_FALSE(takes({{0, 7}, {0, 5}}));  // not ascending
  EXPECT_FALSE(takes({{0, 5}, {0, 5}}));
  EXPECT_FALSE(takes({{0, std::numeric_limits<int32_t>::max()}}));
}

// Records of one byte pattern a (sequence, position), over the ranks' pools.
class GatheredLatentsTest : public ::testing::Test {
 protected:
  static constexpr int kRanks = 3, kBlockSize = 8, kBlocks = 40, kLatent = 6, kRope = 2;

  static float Value(int sequence, int position, int element) {
    return static_cast<float>(1000 * sequence + position) + static_cast<float>(element) / 16;
  }

  GatheredLatentsTest() {
    for (int rank = 0; rank < kRanks; ++rank) {
      kernels::LatentPool& pool = pools_[rank];
      pool = {kernels::KvFormat::kF32, slots_[rank].count, kLatent, kRope, nullptr};
      memory_[rank].resize(kBlocks * pool.block_bytes());
      pool.data = memory_[rank].data();
      for (int sequence = 0; sequence < 2; ++sequence) {
        for (int position = 0; position < kBlocks / 2 * kBlockSize; ++position) {
          if (!slots_[rank].Has(position)) continue;
          std::vector<float> values(kLatent + kRope);
          for (size_t i = 0; i < values.size(); ++i) values[i] = Value(sequence, position, i);
          kernels::StoreLatentToken(pool, tables_[sequence].data(), slots_[rank].LocalOf(position),
                                    values.data(), values.data() + kLatent);
        }
      }
    }
  }

  // Blocks of the two sequences, in no order.
  static std::vector<std::vector<int32_t>> Tables() {
    std::vector<std::vector<int32_t>> tables(2);
    for (int block = 0; block < kBlocks; ++block)
      tables[block % 2].push_back((block * 7) % kBlocks);
    return tables;
  }

  // What each row gets, at every rank; how many gathers that took.
  void Run(std::span<const StepRow> rows, std::span<const PositionChoice> choices,
           size_t max_records, int& gathers) {
    InProcessRanks group(kRanks, absl::Seconds(60));
    std::vector<std::thread> threads;
    std::vector<int> counted(kRanks);
    for (int rank = 0; rank < kRanks; ++rank) {
      threads.emplace_back([&, rank] {
        ThreadPool pool(1 + rank % 2);
        GatheredLatents gathered(group.rank(rank), pool, slots_, max_records);
        for (int first = 0; first < static_cast<int>(rows.size());) {
          const auto end = gathered.Gather(pools_[rank], rows, choices, first);
          ASSERT_TRUE(end.ok()) << end.status();
          ASSERT_GT(*end, first);
          ++counted[rank];
          for (; first < *end; ++first) Check(gathered, rows[first], choices[first], first);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    gathers = counted[0];
    for (const int count : counted) EXPECT_EQ(count, gathers);
  }

  static void Check(const GatheredLatents& gathered, const StepRow& row,
                    const PositionChoice& choice, int r) {
    const kernels::LatentQuery& query = gathered.query(r);
    ASSERT_EQ(query.num_positions, choice.count);
    std::vector<float> record(kLatent + kRope);
    const PositionChoice places{query.positions, query.num_positions};
    for (int i = 0; i < choice.count; ++i) {
      if (i > 0) {
        ASSERT_GT(places.at(i), places.at(i - 1));
      }
      kernels::LoadLatentToken(gathered.pool(), query.block_table, places.at(i),
                               record.data());
      for (size_t e = 0; e < record.size(); ++e)
        ASSERT_EQ(record[e], Value(row.sequence, choice.at(i), e)) << "row " << r;
    }
  }

  const std::vector<KeptSlots> slots_ = SlotsOfRanks(kBlockSize, kRanks);
  const std::vector<std::vector<int32_t>> tables_ = Tables();
  kernels::LatentPool pools_[kRanks];
  std::vector<uint8_t> memory_[kRanks];
};

TEST_F(GatheredLatentsTest, EveryRowFindsItsOwnWhateverFitsAtATime) {
  const uint64_t seed = RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::vector<StepRow> rows;
  std::vector<std::vector<int32_t>> lists;
  for (int sequence = 0; sequence < 2; ++sequence) {
    const int first = static_cast<int>(random() % 100);
    for (int position = first; position < first + 20; ++position) {
      rows.push_back({sequence, position, tables_[sequence].data()});
      std::vector<int32_t>& list = lists.emplace_back();
      for (int p = 0; p <= position; ++p) {
        if (random() % 4 == 0 || p == position) list.push_back(p);
      }
    }
  }
  std::vector<PositionChoice> choices;
  for (size_t r = 0; r < rows.size(); ++r) {
    // Every fifth reads everything.
    choices.push_back(r % 5 ? PositionChoice{lists[r].data(), static_cast<int>(lists[r].size())}
                            : PositionChoice{nullptr, rows[r].position + 1});
  }
  int gathers = 0;
  Run(rows, choices, 1000, gathers);
  EXPECT_EQ(gathers, 1);
  Run(rows, choices, 60, gathers);
  EXPECT_GT(gathers, 1);
  Run(rows, choices, 1, gathers);
  EXPECT_EQ(gathers, 40);  // a row at a time
}

TEST_F(GatheredLatentsTest, APartOfAnotherSizeIsSaid) {
  InProcessRanks group(kRanks, absl::Seconds(60));
  std::vector<absl::Status> statuses(kRanks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadPool pool(1);
      GatheredLatents gathered(group.rank(rank), pool, slots_, 1000);
      const StepRow row{0, 20, tables_[0].data()};
      // The second rank sees another step than the others.
      const PositionChoice choice{nullptr, rank == 1 ? 5 : 21};
      statuses[rank] = gathered.Gather(pools_[rank], {&row, 1}, {&choice, 1}, 0).status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(statuses[0],
            absl::DataLossError("attention rank 1: wanted 9 latents of 32 bytes, got 96 bytes"));
  EXPECT_EQ(statuses[2], statuses[0]);
  EXPECT_EQ(statuses[1].code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace sheaf

// Sequences leave a forward pass at any of its looks; what the others get stays the same, bit for
// bit, with both kinds of attention.

#include "router/attention/step_watch.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "exchange/layer/local_expert_layer.h"
#include "router/attention/decoder.h"
#include "tests/attention/tiny_checkpoint.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::RandomSeed;
using testing::TinyCheckpoint;

constexpr int kBlockSize = 8;
constexpr int kMaxTokens = 256;
constexpr int kSequences = 6;

// Says that sequences are over from a certain look on.
class PlannedWatch final : public StepWatch {
 public:
  explicit PlannedWatch(std::map<int, int> over_at) : over_at_(std::move(over_at)) {}
  void Look() override { ++looks; }
  int num_over() const override {
    int count = 0;
    for (const auto& [sequence, look] : over_at_) count += looks >= look;
    return count;
  }
  bool IsOver(int sequence) const override {
    const auto found = over_at_.find(sequence);
    return found != over_at_.end() && looks >= found->second;
  }
  void OnDropped() override { dropped = num_over(); }

  int looks = 0;
  int dropped = 0;

 private:
  const std::map<int, int> over_at_;  // sequence -> number of the look
};

using Logits = std::map<std::pair<int, int>, std::vector<float>>;  // by (sequence, token)

class Pass {
 public:
  Pass(const TinyCheckpoint& checkpoint, int threads)
      : pool_(threads),
        experts_(checkpoint.experts(), checkpoint.config().num_layers,
                 checkpoint.config().num_experts, pool_),
        cache_(*KvCache::Create(checkpoint.config(), {checkpoint.all_heads()},
                                {kernels::KvFormat::kBF16, kBlockSize, size_t{16} << 20})),
        decoder_(checkpoint.config(), checkpoint.weights(), *cache_,
                 experts_, pool_,
                 {.max_batched_tokens = kMaxTokens, .max_model_len = kMaxTokens,
                  .max_logit_rows = 7}) {}

  // Two chunks of every prompt, the watch on the second.
  absl::Status Run(const std::vector<std::vector<TokenId>>& prompts, StepWatch* watch,
                   Logits& logits) {
    std::vector<std::vector<int32_t>> tables;
    std::vector<StepSequence> first, second;
    int block = 0;
    for (const std::vector<TokenId>& prompt : prompts) {
      std::vector<int32_t> table;
      for (size_t i = 0; i * kBlockSize < prompt.size(); ++i) table.push_back(block++);
      tables.push_back(table);
    }
    for (size_t i = 0; i < prompts.size(); ++i) {
      const std::span<const TokenId> prompt = prompts[i];
      const int cut = static_cast<int>(prompt.size()) / 3;
      if (cut > 0) first.push_back({prompt.first(cut), 0, tables[i], cut});
      // Some want all logits, some the last, some none.
      const int left = static_cast<int>(prompt.size()) - cut;
      second.push_back({prompt.subspan(cut), cut, tables[i],
                        i % 3 == 0   ? 0
                        : i % 3 == 1 ? left - 1
                                     : left});
    }
    EXPECT_TRUE(decoder_.Forward({StepId(1), first}, [](const LogitRows&) {}).ok());
    return decoder_.Forward(
        {StepId(2), second},
        [&](const LogitRows& rows) {
          for (size_t r = 0; r < rows.sources.size(); ++r) {
            const std::span<float> row = rows.row(r);
            logits[{rows.sources[r].sequence, rows.sources[r].token}] = {row.begin(), row.end()};
          }
        },
        watch);
  }

 private:
  ThreadPool pool_;
  LocalExpertLayer experts_;
  std::unique_ptr<KvCache> cache_;
  Decoder decoder_;
};

class StepWatchTest : public ::testing::TestWithParam<bool> {
 protected:
  std::vector<std::vector<TokenId>> RandomPrompts() {
    std::vector<std::vector<TokenId>> prompts(kSequences);
    for (std::vector<TokenId>& prompt : prompts) {
      prompt.resize(1 + random_() % 40);
      for (TokenId& token : prompt) token = static_cast<TokenId>(random_() % 278);
    }
    return prompts;
  }

  const uint64_t seed_ = RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_, .four_bit = true, .latent = GetParam()}};
};

TEST_P(StepWatchTest, WhatStaysIsTheSame) {
  for (int round = 0; round < 12; ++round) {
    const std::vector<std::vector<TokenId>> prompts = RandomPrompts();
    Logits whole;
    PlannedWatch nothing({});
    ASSERT_TRUE(Pass(checkpoint_, 1).Run(prompts, &nothing, whole).ok());
    ASSERT_GE(nothing.looks, 2 * checkpoint_.config().num_layers);
    EXPECT_EQ(nothing.dropped, 0);

    std::map<int, int> over_at;
    for (int i = 0; i < 1 + round % (kSequences - 1); ++i) {
      over_at[static_cast<int>(random_() % kSequences)] =
          1 + static_cast<int>(random_() % nothing.looks);
    }
    SCOPED_TRACE(::testing::PrintToString(over_at));
    PlannedWatch watch(over_at);
    Logits rest;
    ASSERT_TRUE(Pass(checkpoint_, 1 + round % 3).Run(prompts, &watch, rest).ok());
    EXPECT_EQ(watch.looks, nothing.looks) << "they are the rests of the same stages";
    EXPECT_EQ(watch.dropped, static_cast<int>(over_at.size()));
    for (const auto& [source, row] : whole) {
      if (over_at.contains(source.first)) {
        EXPECT_FALSE(rest.contains(source)) << "sequence " << source.first;
      } else {
        EXPECT_EQ(rest[source], row) << "sequence " << source.first << " token " << source.second;
      }
    }
  }
}

TEST_P(StepWatchTest, EndsWhenNobodyIsLeft) {
  const std::vector<std::vector<TokenId>> prompts = RandomPrompts();
  for (const int last : {1, 2, 5}) {
    std::map<int, int> over_at;
    for (int i = 0; i < kSequences; ++i) over_at[i] = 1 + i % last;
    over_at[2] = last;
    PlannedWatch watch(over_at);
    Logits logits;
    EXPECT_EQ(Pass(checkpoint_, 2).Run(prompts, &watch, logits).code(),
              absl::StatusCode::kAborted);
    EXPECT_EQ(watch.looks, last) << "nothing is computed after it";
    EXPECT_TRUE(logits.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Attention, StepWatchTest, ::testing::Bool(), [](const auto& kind) {
  return std::string(kind.param ? "Latent" : "GroupedQuery");
});

}  // namespace
}  // namespace sheaf

#include "router/attention/decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "exchange/layer/local_expert_layer.h"
#include "tests/attention/reference_decoder.h"
#include "tests/attention/tiny_checkpoint.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::RandomSeed;
using testing::TinyCheckpoint;

constexpr int kMaxTokens = 256;

// A decoder on a checkpoint, with a cache of its own. Sequence i of n owns every n-th block: tables
// are interleaved.
class Model {
 public:
  Model(const TinyCheckpoint& checkpoint, kernels::KvFormat format, int block_size, int threads,
        DecoderOptions options = {})
      : checkpoint_(checkpoint),
        pool_(threads),
        experts_(checkpoint.experts(), checkpoint.config().num_layers,
                 checkpoint.config().num_experts, pool_),
        cache_(*KvCache::Create(checkpoint.config(), {checkpoint.all_heads()},
                                {format, block_size, size_t{32} << 20})),
        decoder_(checkpoint.config(), checkpoint.weights(), *cache_,
                 experts_, pool_, WithLimits(options)) {}

  std::vector<int32_t> Table(int first, int step, int tokens) const {
    std::vector<int32_t> table;
    for (int i = 0; i * cache_->block_size() < tokens; ++i) table.push_back(first + i * step);
    return table;
  }

  Decoder& decoder() { return decoder_; }
  int block_size() const { return cache_->block_size(); }

  // Logits of every position of every prompt; prompts advance together in chunks of random sizes up
  // to max_chunk.
  std::vector<std::vector<std::vector<float>>> AllLogits(
      const std::vector<std::vector<TokenId>>& prompts, int max_chunk, std::mt19937_64& random) {
    const int count = static_cast<int>(prompts.size());
    std::vector<std::vector<int32_t>> tables;
    for (int i = 0; i < count; ++i) tables.push_back(Table(i, count, prompts[i].size()));
    std::vector<int> done(count, 0);
    std::vector<std::vector<std::vector<float>>> logits(count);
    for (uint64_t step = 1;; ++step) {
      std::vector<StepSequence> batch;
      std::vector<int> who;
      for (int i = 0; i < count; ++i) {
        const int left = static_cast<int>(prompts[i].size()) - done[i];
        const int chunk = std::min(left, 1 + static_cast<int>(random() % max_chunk));
        if (chunk == 0) continue;
        batch.push_back({std::span(prompts[i]).subspan(done[i], chunk), done[i], tables[i], 0});
        who.push_back(i);
        done[i] += chunk;
      }
      if (batch.empty()) return logits;
      const absl::Status status =
          decoder_.Forward({StepId(step), batch}, [&](const LogitRows& rows) {
            for (size_t r = 0; r < rows.sources.size(); ++r) {
              const std::span<float> row = rows.row(r);
              logits[who[rows.sources[r].sequence]].emplace_back(row.begin(), row.end());
            }
          });
      EXPECT_TRUE(status.ok()) << status;
    }
  }

 private:
  static DecoderOptions WithLimits(DecoderOptions options) {
    options.max_batched_tokens = kMaxTokens;
    options.max_model_len = kMaxTokens;
    options.max_logit_rows = 7;
    return options;
  }

  const TinyCheckpoint& checkpoint_;
  ThreadPool pool_;
  LocalExpertLayer experts_;
  std::unique_ptr<KvCache> cache_;
  Decoder decoder_;
};

std::vector<TokenId> RandomPrompt(std::mt19937_64& random, int length, int vocab_size) {
  std::vector<TokenId> prompt(length);
  for (TokenId& token : prompt) token = static_cast<TokenId>(random() % vocab_size);
  return prompt;
}

// |a - b| / |b - mean(b)|
double RelativeError(const std::vector<float>& a, const std::vector<double>& b) {
  double mean = 0, error = 0, size = 0;
  for (double x : b) mean += x / b.size();
  for (size_t i = 0; i < b.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    size += (b[i] - mean) * (b[i] - mean);
  }
  return std::sqrt(error / size);
}

TEST(Decoder, ComputesTheModelOfItsFormulas) {
  for (bool shared_expert : {true, false}) {
    const uint64_t seed = RandomSeed();
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const TinyCheckpoint checkpoint({.seed = seed, .shared_expert = shared_expert});
    Model model(checkpoint, kernels::KvFormat::kF32, 16, 2);
    const std::vector<TokenId> prompt = RandomPrompt(random, 90, 278);
    const auto logits = model.AllLogits({prompt}, 20, random)[0];
    const auto reference = testing::ReferenceLogits(checkpoint, prompt);
    ASSERT_EQ(logits.size(), prompt.size());
    // Routed experts read int16 groups; a near tie of the gate may choose another expert for a rare
    // token and those after it: so the middle one, and not the worst.
    std::vector<double> errors;
    for (size_t t = 0; t < prompt.size(); ++t)
      errors.push_back(RelativeError(logits[t], reference[t]));
    std::nth_element(errors.begin(), errors.begin() + errors.size() / 2, errors.end());
    EXPECT_LT(errors[errors.size() / 2], 3e-4);
  }
}

TEST(Decoder, ARowDependsOnItsSequenceAlone) {
  const uint64_t seed = RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const TinyCheckpoint checkpoint({.seed = seed, .four_bit = true});
  std::vector<std::vector<TokenId>> prompts;
  for (int length : {1, 17, 70, 40, 129}) prompts.push_back(RandomPrompt(random, length, 278));
  for (kernels::KvFormat format : {kernels::KvFormat::kF32, kernels::KvFormat::kBF16,
                                   kernels::KvFormat::kFp8E4M3, kernels::KvFormat::kFp8E5M2}) {
    SCOPED_TRACE(kernels::KvFormatName(format));
    Model together(checkpoint, format, 8, 2);
    const auto expected = together.AllLogits(prompts, 50, random);
    for (size_t i = 0; i < prompts.size(); ++i) {
      for (int chunk : {1, 7, kMaxTokens}) {
        Model alone(checkpoint, format, chunk == 1 ? 16 : 32, chunk == 7 ? 1 : 3, {});
        EXPECT_EQ(alone.AllLogits({prompts[i]}, chunk, random)[0], expected[i])
            << "prompt " << i << ", chunks up to " << chunk;
      }
    }
  }
}

TEST(Decoder, GivesLogitsOfTheRowsAskedForInOrder) {
  const TinyCheckpoint checkpoint({.seed = 1});
  std::mt19937_64 random(1);
  const std::vector<TokenId> prompt = RandomPrompt(random, 30, 278);
  Model whole(checkpoint, kernels::KvFormat::kF32, 16, 1);
  const auto expected = whole.AllLogits({prompt}, kMaxTokens, random)[0];

  Model model(checkpoint, kernels::KvFormat::kF32, 16, 1);
  const auto a = model.Table(0, 3, 30), b = model.Table(1, 3, 30), c = model.Table(2, 3, 30);
  const std::vector<StepSequence> batch = {
      {prompt, 0, a, 29}, {prompt, 0, b, 30}, {prompt, 0, c, 12}};
  std::vector<std::pair<int, int>> seen;
  ASSERT_TRUE(model.decoder()
                  .Forward({StepId(1), batch},
                           [&](const LogitRows& rows) {
                             EXPECT_LE(rows.sources.size(), 7u);
                             for (size_t r = 0; r < rows.sources.size(); ++r) {
                               const auto [sequence, token] = rows.sources[r];
                               seen.emplace_back(sequence, token);
                               EXPECT_TRUE(std::ranges::equal(rows.row(r), expected[token]));
                             }
                           })
                  .ok());
  std::vector<std::pair<int, int>> wanted = {{0, 29}};
  for (int t = 12; t < 30; ++t) wanted.emplace_back(2, t);
  EXPECT_EQ(seen, wanted);
}

TEST(Decoder, RefusesTokensOutsideTheVocabularyAndOverfullSteps) {
  const TinyCheckpoint checkpoint({.seed = 2});
  Model model(checkpoint, kernels::KvFormat::kF32, 16, 1);
  const auto none = [](const LogitRows&) { ADD_FAILURE() << "no logits of a refused step"; };
  for (TokenId token : {-1, 278}) {
    const std::vector<TokenId> tokens = {5, token};
    const auto table = model.Table(0, 1, 2);
    const StepSequence sequence{tokens, 0, table, 0};
    const absl::Status status = model.decoder().Forward({StepId(1), {&sequence, 1}}, none);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(std::to_string(token)), absl::string_view::npos) << status;
  }
  const std::vector<TokenId> many(kMaxTokens, 1);
  const auto a = model.Table(0, 2, kMaxTokens), b = model.Table(1, 2, kMaxTokens);
  const std::vector<StepSequence> batch = {{many, 0, a, 0}, {many, 0, b, 0}};
  EXPECT_EQ(model.decoder().Forward({StepId(1), batch}, none).code(),
            absl::StatusCode::kInvalidArgument);
}

// Fails at one layer.
class BrokenExperts final : public ExpertLayer {
 public:
  absl::Status Begin(const RoutedBatch&) override { return absl::OkStatus(); }
  absl::Status Finish(float*) override {
    return absl::UnavailableError("worker 2 died at layer 1");
  }
};

TEST(Decoder, PassesOnTheErrorOfAnExpertLayer) {
  const TinyCheckpoint checkpoint({.seed = 3});
  ThreadPool pool(2);
  BrokenExperts experts;
  const auto cache = KvCache::Create(checkpoint.config(), {checkpoint.all_heads()},
                                     {kernels::KvFormat::kF32, 16, size_t{1} << 20});
  Decoder decoder(checkpoint.config(), checkpoint.weights(), **cache,
                  experts, pool,
                  {.max_batched_tokens = 8, .max_model_len = 16, .experts_share_cores = true});
  const std::vector<TokenId> tokens = {1, 2, 3};
  const std::vector<int32_t> table = {0};
  const StepSequence sequence{tokens, 0, table, 0};
  const absl::Status status = decoder.Forward({StepId(1), {&sequence, 1}}, [](const LogitRows&) {
    ADD_FAILURE() << "no logits without the experts";
  });
  EXPECT_EQ(status, absl::UnavailableError("worker 2 died at layer 1"));
}

TEST(Decoder, TimingsAddUp) {
  const TinyCheckpoint checkpoint({.seed = 4});
  StepTimings timings;
  DecoderOptions options;
  options.timings = &timings;
  Model model(checkpoint, kernels::KvFormat::kF32, 16, 1, options);
  std::mt19937_64 random(4);
  model.AllLogits({RandomPrompt(random, 20, 278)}, 1, random);
  EXPECT_EQ(timings.steps, 20);
  const auto stages = timings.embedding + timings.norm + timings.projections + timings.rope_store +
                      timings.attention + timings.output + timings.gate + timings.feed_forward +
                      timings.experts + timings.lm_head;
  EXPECT_GT(timings.projections.count(), 0);
  EXPECT_GT(timings.experts.count(), 0);
  EXPECT_LE(stages, timings.total);
}

}  // namespace
}  // namespace sheaf

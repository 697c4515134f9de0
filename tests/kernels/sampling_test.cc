#include "kernels/sampling/sampling.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "gmock/gmock.h"
#include "kernels/sampling/philox.h"
#include "tests/kernels/every_target.h"
#include "tests/text/random_seed.h"

namespace sheaf::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TokenId Sample(std::vector<float> logits, const SamplingParams& params,
               const SamplingHistory& history = {}) {
  const absl::StatusOr<TokenId> token = SampleToken(logits, params, history);
  EXPECT_TRUE(token.ok()) << token.status();
  return token.ok() ? *token : -1;
}

// How often each token is drawn: 20 output positions for each of `draws` / 20 seeds.
std::vector<int> Histogram(const std::vector<float>& logits, SamplingParams params, int draws) {
  std::vector<int> counts(logits.size());
  const std::vector<TokenId> output(20, 0);
  for (int i = 0; i < draws; ++i) {
    params.seed = 1000 + i / 20;
    const SamplingHistory history = {.output = std::span(output).first(i % 20)};
    ++counts[Sample(logits, params, history)];
  }
  return counts;
}

// Pearson's statistic against probabilities proportional to `weights`.
double ChiSquare(const std::vector<int>& counts, const std::vector<double>& weights) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  const double draws = std::accumulate(counts.begin(), counts.end(), 0.0);
  double sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = draws * weights[i] / total;
    if (expected == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " has no probability";
      continue;
    }
    sum += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  return sum;
}

std::vector<double> Weights(const std::vector<float>& logits, double temperature) {
  std::vector<double> weights;
  for (const float logit : logits) weights.push_back(std::exp(logit / temperature));
  return weights;
}

TEST(Philox, PublishedTestVectors) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Sampling, ExponentialVariatesHaveTheirMeanAndDistribution) {
  const int n = 100000;
  double sum = 0;
  int above_one = 0;
  for (int i = 0; i < n; ++i) {
    const float x = ExponentialVariate(7, i / 1000, i % 1000);
    ASSERT_GT(x, 0.0f);
    sum += x;
    above_one += x > 1.0f;
  }
  EXPECT_NEAR(sum / n, 1.0, 5 / std::sqrt(n)) << "standard deviation 1";
  EXPECT_NEAR(above_one / double(n), std::exp(-1.0), 5 * 0.482 / std::sqrt(n));
  EXPECT_NE(ExponentialVariate(7, 0, 0), ExponentialVariate(8, 0, 0));
  EXPECT_NE(ExponentialVariate(7, 0, 0), ExponentialVariate(7, 1, 0));
  EXPECT_NE(ExponentialVariate(7, 0, 0), ExponentialVariate(7, 0, 1));
  EXPECT_NE(ExponentialVariate(7, 0, 0), ExponentialVariate(7 + (uint64_t{1} << 40), 0, 0));
}

TEST(Sampling, DrawsFollowTheTemperedSoftmax) {
  const std::vector<float> logits = {1.0f, 0.0f, 2.0f, -1.0f, 0.5f, 1.5f, -2.0f, 0.2f};
  for (const float temperature : {0.5f, 1.0f, 1.7f}) {
    SCOPED_TRACE(temperature);
    const std::vector<int> counts = Histogram(logits, {.temperature = temperature}, 40000);
    // 7 degrees of freedom: 24.3 is passed once in a thousand; the seeds are fixed, so this never
    // flickers.
    EXPECT_LT(ChiSquare(counts, Weights(logits, temperature)), 24.3);
  }
}

TEST(Sampling, TopKTopPAndMinPKeepExactlyTheTokensOfTheirDefinition) {
  // Probabilities 0.4, 0.3, 0.2, 0.1 in mixed order.
  const std::vector<float> logits = {std::log(0.2f), std::log(0.4f), std::log(0.1f),
                                     std::log(0.3f)};
  const auto check = [&](const SamplingParams& params, const std::vector<double>& weights) {
    // 3 degrees of freedom: 16.3 once in a thousand.
    EXPECT_LT(ChiSquare(Histogram(logits, params, 20000), weights), 16.3);
  };
  check({.top_k = 2}, {0, 0.4, 0, 0.3});
  check({.top_k = -1}, {0.2, 0.4, 0.1, 0.3});
  check({.top_k = 100}, {0.2, 0.4, 0.1, 0.3});
  check({.top_p = 0.65f}, {0, 0.4, 0, 0.3});
  check({.top_p = 0.75f}, {0.2, 0.4, 0, 0.3});
  check({.top_p = 1e-9f}, {0, 1, 0, 0});
  check({.min_p = 0.6f}, {0, 0.4, 0, 0.3});
  check({.min_p = 1.0f}, {0, 1, 0, 0});
  // top-p counts what top-k left: of 0.4 + 0.3 the first is 57%.
  check({.top_p = 0.55f, .top_k = 2}, {0, 1, 0, 0});
  check({.top_p = 0.60f, .top_k = 2}, {0, 0.4, 0, 0.3});
}

TEST(Sampling, TopPOnALargeVocabularyEqualsAFullSort) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  int compared = 0;
  for (int round = 0; round < 12; ++round) {
    // From peaked to flat, with ties.
    std::vector<float> logits =
        testing::RandomNormals(random, 20000, round % 4 == 3 ? 0.01f : 1.0f + round);
    for (float& logit : logits) logit = std::round(logit * 64) / 64;
    const float top_p = round % 2 == 0 ? 0.95f : 0.3f;
    std::vector<TokenId> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return logits[a] > logits[b]; });
    double total = 0, sum = 0;
    std::vector<double> weights;
    for (const TokenId id : order)
      total += weights.emplace_back(std::exp(double(logits[id]) - logits[order[0]]));
    size_t kept = 0;
    while (kept < order.size() && sum < top_p * total) sum += weights[kept++];
    // The winner among the kept, by the definition; skipped where two are too near for float
    // weights to decide.
    for (uint64_t t = 0; t < 5; ++t) {
      TokenId best = -1;
      double best_ratio = -1, second = -1;
      for (size_t i = 0; i + 3 < kept || i < 1; ++i) {  // 3: rounding may move the cut by a token
        const double ratio = weights[i] / ExponentialVariate(seed + t, 0, order[i]);
        if (ratio > best_ratio) {
          second = best_ratio;
          best_ratio = ratio;
          best = order[i];
        } else {
          second = std::max(second, ratio);
        }
      }
      if (kept < 50 || best_ratio < second * 1.001) continue;
      double cut = -1;
      for (size_t i = kept - 3; i < std::min(order.size(), kept + 3); ++i) {
        cut = std::max(cut, weights[i] / ExponentialVariate(seed + t, 0, order[i]));
      }
      if (cut > best_ratio * 0.999) continue;
      EXPECT_EQ(Sample(logits, {.top_p = top_p, .seed = seed + t}), best) << "round " << round;
      ++compared;
    }
  }
  EXPECT_GT(compared, 20);
}

TEST(Sampling, GreedyBelow1eMinus5AndTinyTemperaturesAgreeWithIt) {
  const std::vector<float> logits = {1.0f, 3.0f, 2.9f, 3.0f};
  EXPECT_EQ(Sample(logits, {.temperature = 0.0f}), 1) << "the lowest id wins a tie";
  EXPECT_EQ(Sample(logits, {.temperature = 9e-6f}), 1);
  for (uint64_t seed = 0; seed < 50; ++seed) {
    EXPECT_EQ(Sample({1.0f, 3.0f, 2.9f}, {.temperature = 2e-5f, .seed = seed}), 1);
    EXPECT_EQ(Sample({1000.0f, 3000.0f, 2999.0f}, {.temperature = 1e-3f, .seed = seed}), 1);
  }
  // At infinite temperature all finite tokens are equally likely, masked ones stay out.
  EXPECT_LT(
      ChiSquare(Histogram({5.0f, -kInf, -5.0f, 0.0f}, {.temperature = kInf}, 9000), {1, 0, 1, 1}),
      13.8);
}

// The logits after all penalties, seen through greedy choices: token i wins iff its logit is the
// largest.
TEST(Sampling, HandComputedPenalties) {
  const std::vector<TokenId> prompt = {0, 0, 1}, output = {2, 2, 1};
  const SamplingHistory history = {.prompt = prompt, .output = output};
  const auto after = [&](std::vector<float> logits, SamplingParams params) {
    params.temperature = 0;
    EXPECT_TRUE(SampleToken(logits, params, history).ok());
    return logits;
  };
  // Repetition: prompt and output alike, once however often; positive divided, negative multiplied.
  EXPECT_EQ(after({4, -3, 2, 1}, {.repetition_penalty = 2.0f}), (std::vector<float>{2, -6, 1, 1}));
  // Frequency: by the number in the output alone.
  EXPECT_EQ(after({4, 3, 2, 1}, {.frequency_penalty = 0.5f}), (std::vector<float>{4, 2.5, 1, 1}));
  // Presence: once for each token of the output.
  EXPECT_EQ(after({4, 3, 2, 1}, {.presence_penalty = -0.25f}),
            (std::vector<float>{4, 3.25, 2.25, 1}));
  // All three, repetition first; the bias before it.
  EXPECT_EQ(after({4, 3, 2, 1}, {.repetition_penalty = 2.0f,
                                 .frequency_penalty = 0.5f,
                                 .presence_penalty = 0.25f,
                                 .logit_bias = {{2, 6.0f}, {3, -1.0f}}}),
            (std::vector<float>{2, 0.75, 2.75, 0}));
  // The state of one call does not reach the next.
  EXPECT_EQ(after({4, 3, 2, 1}, {}), (std::vector<float>{4, 3, 2, 1}));
}

// Counts kept while a sequence grows give the same bits as counting its tokens anew, by hand.
TEST(Sampling, PenaltiesByKeptCountsAreThoseOfTheTokens) {
  std::mt19937_64 random(sheaf::testing::RandomSeed());
  const auto token = [&] { return static_cast<TokenId>(random() % 300) - 20; };  // some outside
  for (int round = 0; round < 20; ++round) {
    SCOPED_TRACE(round);
    SamplingParams params{.temperature = 0};
    if (round % 2 == 0) params.repetition_penalty = 1.3f;
    if (round % 3 != 1) params.frequency_penalty = 0.4f;
    if (round % 4 != 2) params.presence_penalty = -0.3f;
    std::vector<TokenId> prompt(random() % 60), output;
    for (TokenId& id : prompt) id = token();
    TokenCounts counts(prompt, output);
    for (int t = 0; t < 50; ++t) {
      std::vector<float> logits(256);
      for (float& logit : logits) logit = static_cast<float>(random() % 2000) / 100 - 10;
      std::vector<float> wanted = logits;
      for (TokenId id = 0; id < 256; ++id) {
        const auto times = std::count(output.begin(), output.end(), id);
        float& logit = wanted[id];
        if (times > 0 || std::count(prompt.begin(), prompt.end(), id) > 0) {
          logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
        }
        if (times == 0) continue;
        logit -= params.frequency_penalty * static_cast<float>(times);
        logit -= params.presence_penalty;
      }
      std::vector<float> anew = logits, kept = logits;
      ASSERT_TRUE(SampleToken(anew, params, {.prompt = prompt, .output = output}).ok());
      ASSERT_TRUE(
          SampleToken(kept, params, {.prompt = prompt, .output = output, .counts = &counts}).ok());
      ASSERT_EQ(kept, wanted);
      ASSERT_EQ(anew, wanted);
      output.push_back(token());
      counts.AddOutput(output.back());
    }
  }
}

TEST(Sampling, AllowedMaskedAndBiasedIds) {
  const std::vector<float> logits = {1, 5, 3, 2};
  EXPECT_EQ(Sample(logits, {.temperature = 0, .allowed_token_ids = {0, 3}}), 3);
  const std::vector<TokenId> stop = {1, 2};
  EXPECT_EQ(Sample(logits, {.temperature = 0}, {.masked = stop}), 3);
  EXPECT_EQ(Sample(logits, {.temperature = 0, .logit_bias = {{0, 4.5f}}}), 0);
  EXPECT_EQ(Sample(logits, {.temperature = 0, .logit_bias = {{1, -100.0f}}}), 2);
  // A bias cannot bring back what is masked, and ids outside the vocabulary change nothing.
  EXPECT_EQ(Sample(logits, {.temperature = 0, .logit_bias = {{1, 100.0f}}}, {.masked = stop}), 3);
  const std::vector<TokenId> outside = {-1, 4, 1000000};
  EXPECT_EQ(Sample(logits,
                   {.temperature = 0,
                    .repetition_penalty = 1.5f,
                    .logit_bias = {{-1, 5.0f}, {4, 5.0f}},
                    .allowed_token_ids = {-1, 2, 99}},
                   {.prompt = outside, .output = outside, .masked = outside}),
            2);
}

TEST(Sampling, TheMaskGoesFirst) {
  std::vector<float> logits(70, 0.0f);
  logits[3] = 9;
  logits[33] = 8;
  logits[64] = 7;
  logits[69] = 6;
  // Words 0 to 2: none, 33, 64 and 69, and bits beyond the vocabulary that mean nothing.
  const std::vector<uint32_t> mask = {0, 1u << 1, 1u | 1u << 5 | 1u << 31};
  EXPECT_EQ(Sample(logits, {.temperature = 0}), 3);
  EXPECT_EQ(Sample(logits, {.temperature = 0}, {.mask = mask}), 33);
  const std::vector<TokenId> bad = {33};
  EXPECT_EQ(Sample(logits, {.temperature = 0}, {.masked = bad, .mask = mask}), 64);
  EXPECT_EQ(
      Sample(logits, {.temperature = 0, .logit_bias = {{69, 5.0f}, {3, 50.0f}}}, {.mask = mask}),
      69)
      << "a bias cannot bring back what is masked";
  EXPECT_EQ(Sample(logits, {.temperature = 0, .allowed_token_ids = {3, 64, 69}}, {.mask = mask}),
            64);
  std::vector<double> weights(70, 0);
  for (const int id : {33, 64, 69}) weights[id] = std::exp(logits[id] / 3);
  EXPECT_LT(ChiSquare(
                [&] {
                  std::vector<int> counts(70);
                  for (uint64_t seed = 0; seed < 6000; ++seed) {
                    ++counts[Sample(logits, {.temperature = 3, .seed = seed}, {.mask = mask})];
                  }
                  return counts;
                }(),
                weights),
            13.8)
      << "2 degrees of freedom: 13.8 once in a thousand";
  const std::vector<uint32_t> all(3, ~0u);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(Sample(logits, {.seed = seed}, {.mask = all}), Sample(logits, {.seed = seed}))
        << "a mask that allows everything changes nothing";
  }
}

TEST(Sampling, WishesThatExcludeEachOtherAreNamed) {
  const auto error = [](const SamplingParams& params, const SamplingHistory& history) {
    std::vector<float> logits = {1, 2, 3, 4};
    const absl::Status status = SampleToken(logits, params, history).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  const std::vector<uint32_t> mask = {0b0110}, none = {0};
  const std::vector<TokenId> banned = {1, 2};
  EXPECT_THAT(error({}, {.masked = banned, .mask = mask}),
              ::testing::AllOf(::testing::HasSubstr("allowed by the grammar (2 tokens)"),
                               ::testing::HasSubstr("bad_words")));
  EXPECT_THAT(error({.allowed_token_ids = {0, 3}}, {.mask = mask}),
              ::testing::HasSubstr("allowed_token_ids (2 tokens)"));
  EXPECT_THAT(error({.allowed_token_ids = {1}}, {.masked = banned}),
              ::testing::Not(::testing::HasSubstr("allowed by the grammar")));
  EXPECT_THAT(error({}, {.mask = none}), ::testing::HasSubstr("(0 tokens)"));
}

TEST(Sampling, BrokenLogitsAreReportedAndPartlyBrokenOnesSurvived) {
  std::vector<float> all_nan(5, NAN);
  const absl::Status status = SampleToken(all_nan, {}, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_NE(status.message().find("of 5 logits 5 are NaN"), absl::string_view::npos) << status;
  std::vector<float> masked = {1.0f, NAN};
  const std::vector<TokenId> stop = {0};
  EXPECT_FALSE(SampleToken(masked, {}, {.masked = stop}).ok());
  for (const int32_t top_k : {0, 2}) {
    EXPECT_EQ(Sample({NAN, -kInf, 2.0f, NAN}, {.top_k = top_k}), 2);
    EXPECT_EQ(Sample({0.0f, kInf, 2.0f, 1.0f}, {.top_k = top_k}), 1);
  }
}

TEST(Sampling, EveryTargetDrawsTheSameToken) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const std::vector<float> logits = testing::RandomNormals(random, 5003, 4.0f);
  const std::vector<SamplingParams> all = {
      {.seed = seed},
      {.temperature = 0.7f, .top_p = 0.9f, .seed = seed},
      {.temperature = 1.3f, .top_k = 40, .seed = seed},
      {.top_p = 0.95f, .top_k = 40, .min_p = 0.05f, .repetition_penalty = 1.1f, .seed = seed}};
  const std::vector<TokenId> output = {3, 1, 4, 1, 5};
  for (const SamplingParams& params : all) {
    std::map<std::string, TokenId> drawn;
    testing::OnEveryTarget([&](const std::string& target) {
      drawn[target] = Sample(logits, params, {.output = output});
    });
    for (const auto& [target, token] : drawn) EXPECT_EQ(token, drawn["scalar"]) << target;
  }
}

}  // namespace
}  // namespace sheaf::kernels

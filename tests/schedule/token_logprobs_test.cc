#include "router/schedule/step/token_logprobs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

TEST(TokenLogprobs, AreNaturalLogarithmsThatSumToOne) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 4);
  std::vector<float> logits(1000);
  for (float& logit : logits) logit = normal(random);
  const auto all = ComputeLogprobs(logits, 17, -1);
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->top.size(), 1000u);
  double sum = 0, exact_sum = 0;
  for (float logit : logits) exact_sum += std::exp(double(logit));
  for (size_t i = 0; i < all->top.size(); ++i) {
    const TokenLogprob& entry = all->top[i];
    sum += std::exp(double(entry.logprob));
    EXPECT_NEAR(entry.logprob, logits[entry.token] - std::log(exact_sum), 1e-5);
    EXPECT_EQ(entry.rank, int(i) + 1);
    EXPECT_LE(entry.logprob, all->top[i == 0 ? 0 : i - 1].logprob);
    if (entry.token == 17) {
      EXPECT_EQ(all->chosen.rank, entry.rank);
      EXPECT_EQ(all->chosen.logprob, entry.logprob);
    }
  }
  EXPECT_NEAR(sum, 1, 1e-5);
}

TEST(TokenLogprobs, TiesGoToTheLowerId) {
  const std::vector<float> logits = {1, 3, 2, 3, 3};
  EXPECT_EQ(ComputeLogprobs(logits, 1, 0)->chosen.rank, 1);
  EXPECT_EQ(ComputeLogprobs(logits, 4, 0)->chosen.rank, 3);
  EXPECT_EQ(ComputeLogprobs(logits, 0, 0)->chosen.rank, 5);
  const auto top = ComputeLogprobs(logits, 0, 2)->top;
  ASSERT_EQ(top.size(), 2u);
  EXPECT_EQ(top[0].token, 1);
  EXPECT_EQ(top[1].token, 3);
  EXPECT_EQ(ComputeLogprobs(logits, 0, 99)->top.size(), 5u) << "no more than there are";
}

TEST(TokenLogprobs, BrokenLogitsAreAnError) {
  std::vector<float> logits(100, 1.0f);
  EXPECT_TRUE(CheckLogits(logits).ok());
  logits[3] = -std::numeric_limits<float>::infinity();
  EXPECT_TRUE(CheckLogits(logits).ok()) << "a masked id is not broken";
  logits[77] = std::nanf("");
  EXPECT_EQ(CheckLogits(logits).code(), absl::StatusCode::kInternal);
  logits[77] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(ComputeLogprobs(logits, 1, 1).status().code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace sheaf

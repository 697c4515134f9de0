#include "router/schedule/plan/prefill_share.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace sheaf {
namespace {

using ::testing::ElementsAre;

Prefill Prompt(uint64_t id, int missing, int computed = 0, uint64_t last_step = 0) {
  Prefill prefill;
  prefill.id = SequenceId(id);
  prefill.missing_tokens = missing;
  prefill.computed_tokens = computed;
  prefill.owned_blocks = (computed + 15) / 16;
  prefill.last_step = last_step;
  return prefill;
}

std::vector<int> TokensOf(const std::vector<Prefill>& prefills) {
  std::vector<int> tokens;
  for (const Prefill& prefill : prefills) tokens.push_back(prefill.num_tokens);
  return tokens;
}

// 10 ms a row.
StepCostModel TenMsARow() {
  StepCostModel model({});
  for (int rows = 1; rows <= 1024; rows *= 2) {
    for (int i = 0; i < 20; ++i) {
      StepShape shape;
      shape.Add(/*decode=*/true, i, rows);
      shape.logit_rows = i % 3;
      model.Observe(shape, std::chrono::milliseconds(10 * rows));
    }
  }
  return model;
}

StepShape Decodes(int count) {
  StepShape shape;
  for (int i = 0; i < count; ++i) shape.Add(/*decode=*/true, 100, 1);
  return shape;
}

TEST(PrefillShare, TheShortestFirst) {
  StepShape shape;
  std::vector<Prefill> prefills = {Prompt(2, 100), Prompt(1, 50), Prompt(3, 20)};
  EXPECT_EQ(SharePrefill({120, 1000}, nullptr, shape, prefills), 0);
  EXPECT_THAT(TokensOf(prefills), ElementsAre(50, 50, 20));
  EXPECT_EQ(shape.prefill_rows, 120);
  EXPECT_EQ(shape.logit_rows, 2);
}

TEST(PrefillShare, TheMostSeniorHasAQuarter) {
  StepShape shape;
  std::vector<Prefill> prefills = {Prompt(1, 5000, 64), Prompt(2, 100), Prompt(3, 100)};
  SharePrefill({160, 1000}, nullptr, shape, prefills);
  EXPECT_THAT(TokensOf(prefills), ElementsAre(40, 100, 20));
}

TEST(PrefillShare, OrOneStepInFourWhereAQuarterIsLessThanABlock) {
  for (const uint64_t step : {11, 12, 13, 14}) {
    StepShape shape;
    std::vector<Prefill> prefills = {Prompt(1, 5000, 64, /*last_step=*/10), Prompt(2, 100)};
    SharePrefill({40, 1000, 16, step}, nullptr, shape, prefills);
    EXPECT_THAT(TokensOf(prefills), step == 14 ? ElementsAre(40, 0) : ElementsAre(0, 40)) << step;
  }
}

TEST(PrefillShare, PriorityComesBeforeLengthAndSeniority) {
  StepShape shape;
  std::vector<Prefill> prefills = {Prompt(1, 10), Prompt(2, 500), Prompt(3, 900)};
  prefills[0].priority = 1;
  SharePrefill({600, 1000}, nullptr, shape, prefills);
  EXPECT_THAT(TokensOf(prefills), ElementsAre(0, 500, 100));
}

TEST(PrefillShare, BesideDecodesItIsBoundedByTime) {
  const StepCostModel model = TenMsARow();
  StepShape shape = Decodes(10);
  std::vector<Prefill> prefills = {Prompt(1, 1000)};
  const double target = SharePrefill({2048, 1000}, &model, shape, prefills);
  EXPECT_NEAR(target, 180, 5) << "kStepGrowth times that of the decodes";
  EXPECT_NEAR(prefills[0].num_tokens, 8, 1);
  EXPECT_EQ(shape.rows(), 10 + prefills[0].num_tokens);
}

TEST(PrefillShare, WithoutDecodesItIsNot) {
  const StepCostModel model = TenMsARow();
  StepShape shape;
  std::vector<Prefill> prefills = {Prompt(1, 3000)};
  EXPECT_EQ(SharePrefill({2048, 1000, 16, 1, 50}, &model, shape, prefills), 0);
  EXPECT_EQ(prefills[0].num_tokens, 2048);
}

TEST(PrefillShare, ATargetThatIsSet) {
  const StepCostModel model = TenMsARow();
  StepShape shape = Decodes(10);
  std::vector<Prefill> prefills = {Prompt(1, 1000)};
  EXPECT_EQ(SharePrefill({2048, 1000, 16, 1, 500}, &model, shape, prefills), 500);
  EXPECT_NEAR(prefills[0].num_tokens, 40, 2);
  // The decodes alone exceed it: prefills get a quarter of the decodes' time all the same.
  shape = Decodes(100);
  prefills = {Prompt(1, 1000)};
  EXPECT_NEAR(SharePrefill({2048, 1000, 16, 1, 500}, &model, shape, prefills), 1250, 30);
  EXPECT_NEAR(prefills[0].num_tokens, 25, 2);
}

TEST(PrefillShare, ATokenGoesOnWhateverTheTimeSays) {
  const StepCostModel model = TenMsARow();
  StepShape shape = Decodes(1);
  std::vector<Prefill> prefills = {Prompt(1, 30), Prompt(2, 1000)};
  SharePrefill({2048, 1000}, &model, shape, prefills);
  EXPECT_THAT(TokensOf(prefills), ElementsAre(1, 0));
}

TEST(PrefillShare, ThatTokenIsTheSeniorsOneStepInFour) {
  const StepCostModel model = TenMsARow();
  for (const uint64_t step : {11, 12, 13, 14}) {
    StepShape shape = Decodes(1);
    std::vector<Prefill> prefills = {Prompt(1, 5000, 64, /*last_step=*/10), Prompt(2, 100)};
    SharePrefill({2048, 1000, 16, step}, &model, shape, prefills);
    EXPECT_THAT(TokensOf(prefills), step == 14 ? ElementsAre(1, 0) : ElementsAre(0, 1)) << step;
  }
}

TEST(PrefillShare, BlocksBoundIt) {
  StepShape shape;
  std::vector<Prefill> prefills = {Prompt(2, 100, 8), Prompt(1, 60)};
  SharePrefill({1000, 5}, nullptr, shape, prefills);
  // 60 tokens take 4 blocks; one and half of its own are left to the other.
  EXPECT_THAT(TokensOf(prefills), ElementsAre(24, 60));
  EXPECT_EQ(prefills[0].new_blocks, 1);
  EXPECT_EQ(prefills[1].new_blocks, 4);
}

}  // namespace
}  // namespace sheaf

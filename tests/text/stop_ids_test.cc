#include "router/text/stop_ids.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/text/byte_level_tokenizer.h"

namespace sheaf {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kEndOfText;
using testing::kThink;
using testing::kUser;
using testing::kVocabSize;

StopIdPlan Plan(std::vector<TokenId> configured, std::string_view eos_token,
                std::vector<TurnEnd> turn_ends, int vocab_size = 512) {
  static const auto tokenizer =
      *Tokenizer::FromJson(testing::TokenizerJson().dump(), "test tokenizer");
  return PlanStopIds(configured, eos_token, turn_ends, *tokenizer, vocab_size);
}

const std::vector<TurnEnd> kEnds = {{kUser, "a user's message"}};

TEST(StopIdsTest, AllThatAnyoneNamesCountOnce) {
  const StopIdPlan plan = Plan({kEndOfText, kThink}, "<|endoftext|>", kEnds);
  EXPECT_THAT(plan.Ids(), ElementsAre(kEndOfText, kThink, kUser));
  EXPECT_THAT(plan.remarks, IsEmpty());
  EXPECT_EQ(plan.Text(),
            "272 <|endoftext|> (eos_token_id), 276 <think> (eos_token_id), 275 <|user|> (chat "
            "template, before a user's message)");
}

TEST(StopIdsTest, OneIdAloneDoesNotHideTheTemplates) {
  EXPECT_THAT(Plan({kEndOfText}, "", kEnds).Ids(), ElementsAre(kEndOfText, kUser));
}

TEST(StopIdsTest, WithoutConfiguredIdsTheTokenizerAndTheTemplateDecideWithARemark) {
  const StopIdPlan plan = Plan({}, "<|endoftext|>", kEnds);
  EXPECT_THAT(plan.Ids(), ElementsAre(kEndOfText, kUser));
  EXPECT_THAT(plan.remarks, ElementsAre(AllOf(HasSubstr("no usable eos_token_id"),
                                              HasSubstr("<|endoftext|> (eos_token)"))));
  EXPECT_THAT(Plan({}, "", kEnds).Ids(), ElementsAre(kUser));
}

TEST(StopIdsTest, NoneAtAllIsSaid) {
  const StopIdPlan plan = Plan({}, "", {});
  EXPECT_THAT(plan.Ids(), IsEmpty());
  EXPECT_EQ(plan.Text(), "none");
  EXPECT_THAT(plan.remarks, ElementsAre(HasSubstr("until max_tokens")));
}

TEST(StopIdsTest, IdsThatAreNoTokensAreLeftOutWithARemark) {
  const StopIdPlan plan = Plan({-1, kEndOfText, kVocabSize, 1 << 30}, "<nothing>", {});
  EXPECT_THAT(plan.Ids(), ElementsAre(kEndOfText));
  EXPECT_THAT(plan.remarks, ElementsAre(HasSubstr("stop id -1"), HasSubstr("stop id 278"),
                                        HasSubstr("stop id 1073741824"), HasSubstr("<nothing>")));
  // A token of the tokenizer that the model has no row for.
  EXPECT_THAT(Plan({kEndOfText, kUser}, "", {}, kUser).Ids(), ElementsAre(kEndOfText));
}

}  // namespace
}  // namespace sheaf

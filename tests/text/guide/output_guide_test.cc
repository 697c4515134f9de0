#include "router/text/guide/output_guide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/guide/toy_grammar.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Spelled;
using testing::ToyGrammar;
using testing::ToyGrammarSpec;

constexpr TokenId kThink = 90, kEndThink = 91, kCall = 92, kNewline = 10;

GuidePlan Plan(ThoughtStart start) {
  GuidePlan plan;
  plan.start = start;
  plan.tags = {kThink, kEndThink, kCall};
  plan.open_thoughts = {kNewline, kThink};
  return plan;
}

std::shared_ptr<const OutputGrammar> Grammar(ToyGrammarSpec spec) {
  return std::make_shared<ToyGrammar>(std::move(spec));
}

std::unique_ptr<OutputGuide> Guide(GuidePlan plan, bool runs = true) {
  auto guide = OutputGuide::Create(std::make_shared<GuidePlan>(std::move(plan)), runs);
  EXPECT_TRUE(guide.ok()) << guide.status();
  return *std::move(guide);
}

// Accepts all that is forced now and returns it.
std::vector<TokenId> TakeForced(OutputGuide& guide) {
  std::vector<TokenId> tokens;
  while (guide.forced().has_value()) {
    tokens.push_back(*guide.forced());
    EXPECT_TRUE(guide.Accept(tokens.back()).ok());
  }
  return tokens;
}

void Sample(OutputGuide& guide, const std::vector<TokenId>& tokens) {
  for (const TokenId token : tokens) {
    ASSERT_FALSE(guide.forced().has_value());
    ASSERT_TRUE(guide.Accept(token).ok());
  }
}

std::vector<TokenId> Allowed(OutputGuide& guide) {
  std::vector<uint32_t> mask(4, ~0u);
  EXPECT_TRUE(guide.ComputeMask(mask).ok());
  std::vector<TokenId> ids;
  for (TokenId id = 0; id < 128; ++id) {
    if (mask[id / 32] >> (id % 32) & 1) ids.push_back(id);
  }
  return ids;
}

TEST(OutputGuide, WithoutBudgetAndGrammarNothingIsForbidden) {
  for (const ThoughtStart start :
       {ThoughtStart::kNoThoughts, ThoughtStart::kInside, ThoughtStart::kWrittenByModel}) {
    const auto guide = Guide(Plan(start));
    Sample(*guide, {kNewline, kThink, 1, 2, kEndThink, 3, kThink, kCall, 4});
    EXPECT_EQ(guide->rule(), GuideRule::kFree);
    EXPECT_FALSE(guide->plan().constrains());
  }
}

TEST(OutputGuide, AGrammarWithoutThoughtsBeginsAtOnceAndSaysWhatMayFollow) {
  GuidePlan plan = Plan(ThoughtStart::kNoThoughts);
  plan.grammar = Grammar({.places = {{'{'}, {'a', 'b'}, {'c'}, {'d', 'e'}, {'}'}}});
  const auto guide = Guide(plan);
  EXPECT_THAT(TakeForced(*guide), ElementsAre('{'));
  EXPECT_EQ(guide->rule(), GuideRule::kGrammar);
  EXPECT_THAT(Allowed(*guide), ElementsAre('a', 'b'));
  Sample(*guide, {'b'});
  EXPECT_THAT(TakeForced(*guide), ElementsAre('c'));
  EXPECT_THAT(Allowed(*guide), ElementsAre('d', 'e'));
  Sample(*guide, {'d'});
  EXPECT_THAT(TakeForced(*guide), ElementsAre('}'));
  EXPECT_EQ(guide->rule(), GuideRule::kStopOnly);
  EXPECT_FALSE(guide->Accept('x').ok()) << "nothing can follow";
}

TEST(OutputGuide, ACompleteTextMayStopOrGoOn) {
  GuidePlan plan = Plan(ThoughtStart::kNoThoughts);
  plan.grammar = Grammar({.places = {{'1', '2'}, {'0', '5'}}, .complete_before = {1}});
  const auto guide = Guide(plan);
  EXPECT_EQ(guide->rule(), GuideRule::kGrammar);
  Sample(*guide, {'1'});
  EXPECT_EQ(guide->rule(), GuideRule::kGrammarOrStop);
  Sample(*guide, {'5'});
  EXPECT_EQ(guide->rule(), GuideRule::kStopOnly);
}

TEST(OutputGuide, WithoutRunsEveryTokenOfTheGrammarIsSampled) {
  GuidePlan plan = Plan(ThoughtStart::kNoThoughts);
  plan.grammar = Grammar({.places = Spelled("abc")});
  const auto guide = Guide(plan, /*runs=*/false);
  for (const char c : {'a', 'b', 'c'}) {
    EXPECT_THAT(Allowed(*guide), ElementsAre(c));
    Sample(*guide, {c});
  }
  EXPECT_EQ(guide->rule(), GuideRule::kStopOnly);
}

TEST(OutputGuide, TheGrammarBeginsAfterThoughtsThatThePromptOpened) {
  GuidePlan plan = Plan(ThoughtStart::kInside);
  plan.grammar = Grammar({.places = Spelled("ok")});
  const auto guide = Guide(plan);
  EXPECT_EQ(guide->rule(), GuideRule::kNoStop);
  Sample(*guide, {1, 2, 3});
  EXPECT_EQ(guide->rule(), GuideRule::kNoStop);
  Sample(*guide, {kEndThink});
  EXPECT_THAT(TakeForced(*guide), ElementsAre('o', 'k'));
  EXPECT_EQ(guide->rule(), GuideRule::kStopOnly);
}

TEST(OutputGuide, ThoughtsThatTheModelWritesAreOpenedForItBeforeAGrammar) {
  GuidePlan plan = Plan(ThoughtStart::kWrittenByModel);
  plan.before_answer = {kNewline};
  plan.grammar = Grammar({.places = {{'o', 'p'}, {'k'}}});
  const auto guide = Guide(plan);
  EXPECT_THAT(TakeForced(*guide), ElementsAre(kNewline, kThink));
  EXPECT_EQ(guide->rule(), GuideRule::kNoStop);
  Sample(*guide, {7, kEndThink});
  EXPECT_THAT(TakeForced(*guide), ElementsAre(kNewline));
  EXPECT_EQ(guide->rule(), GuideRule::kGrammar);
  Sample(*guide, {'p'});
  EXPECT_THAT(TakeForced(*guide), ElementsAre('k'));
}

TEST(OutputGuide, TheAnswersLeadAlsoComesWithoutThoughts) {
  GuidePlan plan = Plan(ThoughtStart::kNoThoughts);
  plan.before_answer = {kNewline};
  plan.grammar = Grammar({.places = Spelled("x")});
  EXPECT_THAT(TakeForced(*Guide(plan)), ElementsAre(kNewline, 'x'));
  plan.grammar = nullptr;
  EXPECT_THAT(TakeForced(*Guide(plan)), IsEmpty()) << "a free answer is the model's own";
}

TEST(OutputGuide, TheBudgetEndsThoughts) {
  for (const int budget : {0, 1, 5}) {
    for (const bool with_grammar : {false, true}) {
      GuidePlan plan = Plan(ThoughtStart::kInside);
      plan.before_answer = {kNewline};
      plan.thinking_token_budget = budget;
      if (with_grammar) plan.grammar = Grammar({.places = Spelled("ok")});
      const auto guide = Guide(plan);
      for (int i = 0; i < budget; ++i) Sample(*guide, {i});
      if (with_grammar) {
        EXPECT_THAT(TakeForced(*guide), ElementsAre(kEndThink, kNewline, 'o', 'k'));
      } else {
        EXPECT_THAT(TakeForced(*guide), ElementsAre(kEndThink, kNewline));
        EXPECT_EQ(guide->rule(), GuideRule::kFree);
      }
    }
  }
}

TEST(OutputGuide, ThoughtsThatEndEarlyAreNotForced) {
  GuidePlan plan = Plan(ThoughtStart::kInside);
  plan.before_answer = {kNewline};
  plan.thinking_token_budget = 3;
  const auto guide = Guide(plan);
  Sample(*guide, {1, 2, kEndThink, kNewline, 4, 5, 6, 7});
  EXPECT_FALSE(guide->forced().has_value());
  // Thoughts that begin again have what is left of the budget.
  Sample(*guide, {kThink, 8});
  EXPECT_THAT(TakeForced(*guide), ElementsAre(kEndThink, kNewline));
}

TEST(OutputGuide, ABudgetCountsThoughtsThatTheModelOpensItself) {
  GuidePlan plan = Plan(ThoughtStart::kWrittenByModel);
  plan.thinking_token_budget = 0;
  auto guide = Guide(plan);
  Sample(*guide, {kNewline});
  EXPECT_FALSE(guide->forced().has_value()) << "no thoughts yet";
  Sample(*guide, {kThink});
  EXPECT_THAT(TakeForced(*guide), ElementsAre(kEndThink));
  plan.before_answer = {kNewline};
  plan.grammar = Grammar({.places = Spelled("x")});
  guide = Guide(plan);
  EXPECT_THAT(TakeForced(*guide), ElementsAre(kNewline, kThink, kEndThink, kNewline, 'x'));
}

TEST(OutputGuide, ErrorsOfTheGrammarComeThrough) {
  GuidePlan plan = Plan(ThoughtStart::kNoThoughts);
  plan.grammar = Grammar({.places = {{'a', 'b'}, {'c', 'd'}}, .mask_fails_at = 1});
  auto guide = Guide(plan);
  Sample(*guide, {'a'});
  std::vector<uint32_t> mask(4);
  EXPECT_EQ(guide->ComputeMask(mask),
            absl::ResourceExhaustedError("toy grammar: the mask is too hard"));
  plan.grammar = Grammar({.places = {{'a', 'b'}}, .accept_fails_at = 0});
  guide = Guide(plan);
  EXPECT_EQ(guide->Accept('a').code(), absl::StatusCode::kResourceExhausted);
  plan.grammar = Grammar({.places = {}, .start_fails = true});
  EXPECT_EQ(OutputGuide::Create(std::make_shared<GuidePlan>(plan), true).status(),
            absl::ResourceExhaustedError("toy grammar: too large"));
}

TEST(OutputGuide, APlanWhoseTagsAreMissingIsRefused) {
  GuidePlan budget = Plan(ThoughtStart::kInside);
  budget.thinking_token_budget = 5;
  budget.tags.think_end.reset();
  GuidePlan endless = Plan(ThoughtStart::kInside);
  endless.grammar = Grammar({.places = Spelled("x")});
  endless.tags.think_end.reset();
  GuidePlan unopened = Plan(ThoughtStart::kWrittenByModel);
  unopened.grammar = endless.grammar;
  unopened.open_thoughts = {kNewline};
  for (const GuidePlan& plan : {budget, endless, unopened}) {
    EXPECT_EQ(OutputGuide::Create(std::make_shared<GuidePlan>(plan), true).status().code(),
              absl::StatusCode::kInternal);
  }
}

TEST(ThoughtTracker, CountsThoughtsWithoutTheirTags) {
  const ThoughtTags tags = {kThink, kEndThink, kCall};
  const auto count = [&](bool inside, const std::vector<TokenId>& tokens) {
    ThoughtTracker tracker(tags, inside);
    for (const TokenId token : tokens) tracker.Accept(token);
    return tracker.num_tokens();
  };
  EXPECT_EQ(count(true, {1, 2, kEndThink, 3, 4}), 2);
  EXPECT_EQ(count(false, {kNewline, kThink, 1, 2, 3, kEndThink, 4}), 3);
  EXPECT_EQ(count(false, {1, kEndThink, 2}), 0) << "a stray end";
  EXPECT_EQ(count(true, {1, kThink, 2}), 2) << "a stray begin";
  EXPECT_EQ(count(true, {1, kCall, 2, 3}), 1) << "a call ends thoughts";
  EXPECT_EQ(count(true, {1, kEndThink, 2, kThink, 3}), 2) << "thoughts again";
  ThoughtTracker none({}, false);
  for (const TokenId token : {kThink, 1, kEndThink}) none.Accept(token);
  EXPECT_EQ(none.num_tokens(), 0) << "a tokenizer without tags";
}

}  // namespace
}  // namespace sheaf

#include "router/schedule/step/next_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/schedule/byte_tokenizer.h"
#include "tests/schedule/recording_sink.h"
#include "tests/schedule/told_sequence.h"
#include "tests/text/guide/toy_grammar.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Spelled;
using testing::ToyGrammar;
using testing::ToyGrammarSpec;

constexpr TokenId kEos = testing::kEndOfText;
constexpr TokenId kThink = testing::kThink, kEndThink = testing::kNoThink, kCall = testing::kUser;

class NextTokensTest : public ::testing::Test {
 protected:
  NextTokensTest() {
    request_.prompt = {'a', 'b'};
    request_.stop.max_tokens = 100;
    request_.sampling.temperature = 0;
    plan_.tags = {kThink, kEndThink, kCall};
  }

  void Make(std::optional<ToyGrammarSpec> grammar, bool runs = true) {
    if (grammar.has_value()) plan_.grammar = std::make_shared<ToyGrammar>(*std::move(grammar));
    request_.guide = std::make_shared<GuidePlan>(plan_);
    auto guide = OutputGuide::Create(request_.guide, runs);
    ASSERT_TRUE(guide.ok()) << guide.status();
    sink_ = std::make_shared<testing::RecordingSink>();
    sequence_ = std::make_unique<Sequence>(SequenceId(1), request_, sink_, testing::ByteTokenizer(),
                                           nullptr, Sequence::Limits{eos_, 1000}, TimePoint{},
                                           *std::move(guide));
  }

  // One row on which every token has its own logit, `best` the highest, then `second`, and so on.
  absl::Status Row(std::vector<TokenId> wishes, int limit = 64) {
    std::vector<float> logits(testing::kVocabSize);
    for (size_t i = 0; i < logits.size(); ++i) logits[i] = -static_cast<float>(i);
    float value = 1000;
    for (const TokenId id : wishes) logits[id] = value--;
    next_ = {};
    const absl::Status status = ChooseNext(logits, *sequence_, limit, next_);
    if (!status.ok()) return status;
    end_ = next_.ended ? std::optional(FinishReason::kStop) : std::nullopt;
    for (size_t i = 0; i < next_.tokens.size() && !end_.has_value(); ++i) {
      end_ = testing::AcceptAndTell(*sequence_, next_.tokens[i], next_.forced[i]);
    }
    return absl::OkStatus();
  }
  std::vector<TokenId> Next(std::vector<TokenId> wishes, int limit = 64) {
    const absl::Status status = Row(std::move(wishes), limit);
    EXPECT_TRUE(status.ok()) << status;
    return next_.tokens;
  }
  GenerationEnd End() {
    testing::TellEnd(*sequence_, end_.value_or(FinishReason::kCancelled));
    return sink_->WaitForEnd();
  }

  const std::vector<TokenId> eos_ = {kEos};
  GenerationRequest request_;
  GuidePlan plan_;
  // of sequence_
  std::shared_ptr<testing::RecordingSink> sink_ = std::make_shared<testing::RecordingSink>();
  std::unique_ptr<Sequence> sequence_;
  NextTokens next_;
  std::optional<FinishReason> end_;
};

TEST_F(NextTokensTest, SamplesUnderTheMaskAndAppendsWhatIsForced) {
  Make(ToyGrammarSpec{{{'x', 'y'}, {'1'}, {'2'}, {'p', 'q'}}});
  EXPECT_THAT(Next({'z', 'y', 'x'}), ElementsAre('y', '1', '2'));
  EXPECT_FALSE(next_.forced[0]);
  EXPECT_THAT(Next({kEos, 'q'}), ElementsAre('q'));
  EXPECT_THAT(Next({'z'}), ElementsAre(kEos)) << "nothing else can follow";
  EXPECT_EQ(end_, FinishReason::kStop);
  EXPECT_EQ(End().stop_token, kEos);
  EXPECT_EQ(sink_->text(), "y12q");
}

TEST_F(NextTokensTest, TheLimitChangesTheRowsAndNotTheTokens) {
  for (const int limit : {1, 2, 64}) {
    Make(ToyGrammarSpec{{{'a'}, {'b'}, {'c'}, {'x', 'y'}, {'d'}, {'e'}}});
    std::vector<TokenId> tokens;
    end_.reset();
    while (!end_.has_value()) {
      for (const TokenId id : Next({'y', 'x'}, limit)) tokens.push_back(id);
      ASSERT_LE(static_cast<int>(next_.tokens.size()), limit);
    }
    EXPECT_THAT(tokens, ElementsAre('a', 'b', 'c', 'y', 'd', 'e', kEos)) << limit;
  }
}

TEST_F(NextTokensTest, StopTokensMayComeWhereTheTextIsComplete) {
  Make(ToyGrammarSpec{.places = {{'1', '2'}, {'3', '4'}}, .complete_before = {1}});
  EXPECT_THAT(Next({kEos, '2'}), ElementsAre('2')) << "not before";
  EXPECT_THAT(Next({kEos, '3'}), ElementsAre(kEos));
}

TEST_F(NextTokensTest, MinTokensHoldBackAStopButNotTheGrammarsEnd) {
  request_.stop.min_tokens = 5;
  for (const bool late : {false, true}) {
    Make(ToyGrammarSpec{
        .places = {{'1', '2'}, {'3', '4'}}, .complete_before = {1}, .end_is_found_late = late});
    EXPECT_THAT(Next({'1'}), ElementsAre('1'));
    EXPECT_THAT(Next({kEos, '4'}), ElementsAre('4'));
    EXPECT_THAT(Next({'z'}), ElementsAre(kEos));
    EXPECT_EQ(end_, FinishReason::kStop);
  }
  EXPECT_EQ(End().completion_tokens, 3);
}

TEST_F(NextTokensTest, WithoutStopTokensTheGrammarsEndIsTheEnd) {
  request_.stop.ignore_eos = true;
  for (const bool late : {false, true}) {
    Make(ToyGrammarSpec{.places = {{'1', '2'}}, .end_is_found_late = late});
    EXPECT_THAT(Next({kEos, '2'}), ElementsAre('2'));
    EXPECT_THAT(Next({kEos}), IsEmpty());
    EXPECT_EQ(end_, FinishReason::kStop);
  }
  const GenerationEnd end = End();
  EXPECT_EQ(end.stop_token, std::nullopt);
  EXPECT_EQ(end.completion_tokens, 1);
}

TEST_F(NextTokensTest, ThoughtsBeforeAGrammarCannotEndTheAnswer) {
  plan_.start = ThoughtStart::kInside;
  request_.stop.stop_token_ids = {'!', kEndThink};
  request_.stop.min_tokens = 1000;
  Make(ToyGrammarSpec{{{'o', 'O'}}}, /*runs=*/false);
  EXPECT_THAT(Next({kEos, '!', kThink, kCall, 't'}), ElementsAre('t'));
  EXPECT_THAT(Next({kEos, kEndThink, 't'}), ElementsAre(kEndThink)) << "never banned";
  EXPECT_THAT(Next({'!', 'O'}), ElementsAre('O'));
}

TEST_F(NextTokensTest, WithoutAGrammarThoughtsMayStopTheAnswer) {
  plan_.start = ThoughtStart::kInside;
  Make(std::nullopt);
  EXPECT_THAT(Next({'t'}), ElementsAre('t'));
  EXPECT_THAT(Next({kEos}), ElementsAre(kEos));
  EXPECT_EQ(End().reasoning_tokens, 2) << "the stop token came inside them";
}

TEST_F(NextTokensTest, CountsReasoningOfWhatTheClientWasTold) {
  plan_.start = ThoughtStart::kInside;
  plan_.thinking_token_budget = 2;
  plan_.before_answer = {'\n'};
  request_.stop.max_tokens = 5;
  Make(ToyGrammarSpec{Spelled("much more than fits")});
  EXPECT_THAT(Next({'1'}), ElementsAre('1'));
  const std::vector<TokenId> second = Next({'2'}, sequence_->tokens_left());
  EXPECT_THAT(second, ElementsAre('2', kEndThink, '\n', 'm'));
  EXPECT_EQ(end_, FinishReason::kLength);
  const GenerationEnd end = End();
  EXPECT_EQ(end.reasoning_tokens, 2);
  EXPECT_EQ(end.completion_tokens, 5);
}

TEST_F(NextTokensTest, AStopStringEndsTheOutputInTheMiddleOfARun) {
  request_.stop.stop_strings = {"lo"};
  auto strings = StopStrings::Create(request_.stop.stop_strings);
  plan_.grammar = std::make_shared<ToyGrammar>(ToyGrammarSpec{Spelled("hello world")});
  request_.guide = std::make_shared<GuidePlan>(plan_);
  sequence_ = std::make_unique<Sequence>(SequenceId(1), request_, sink_, testing::ByteTokenizer(),
                                         std::make_shared<const StopStrings>(*std::move(strings)),
                                         Sequence::Limits{eos_, 1000}, TimePoint{},
                                         *OutputGuide::Create(request_.guide, true));
  EXPECT_TRUE(Row({}).ok());
  EXPECT_EQ(end_, FinishReason::kStop);
  const GenerationEnd end = End();
  EXPECT_EQ(end.stop_string, "lo");
  EXPECT_EQ(end.completion_tokens, 5);
  EXPECT_EQ(sink_->text(), "hel");
}

TEST_F(NextTokensTest, BadWordsAreVllmsRule) {
  request_.bad_words = {{'b', 'c', 'd'}, {'z'}, {'b', 'c', 'e'}, {'q', 'q'}};
  Make(std::nullopt);
  EXPECT_THAT(Next({'z', 'c'}), ElementsAre('c')) << "one token: never";
  EXPECT_THAT(Next({'d', 'b'}), ElementsAre('d')) << "the prompt's end does not count";
  EXPECT_THAT(Next({'b'}), ElementsAre('b'));
  EXPECT_THAT(Next({'d', 'c'}), ElementsAre('d')) << "b d is no bad word";
  EXPECT_THAT(Next({'b'}), ElementsAre('b'));
  EXPECT_THAT(Next({'c'}), ElementsAre('c'));
  EXPECT_THAT(Next({'d', 'e', 'f'}), ElementsAre('f'));
  EXPECT_THAT(Next({'d'}), ElementsAre('d'));
}

TEST_F(NextTokensTest, AMaskOfWhichNothingIsLeftEndsTheSequenceAndSaysWhy) {
  request_.bad_words = {{'x'}};
  request_.sampling.allowed_token_ids = {'x', 'z', kEos};
  Make(ToyGrammarSpec{{{'x', 'y'}}}, /*runs=*/false);
  const absl::Status status = Row({'x'});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("allowed by the grammar (2 tokens)"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("bad_words"));
  EXPECT_TRUE(next_.guide_error);
}

TEST_F(NextTokensTest, AllowedIdsCombineWithTheMaskAndDoNotForbidTheEnd) {
  request_.sampling.allowed_token_ids = {'y', 'z'};
  Make(ToyGrammarSpec{{{'x', 'y'}}}, /*runs=*/false);
  EXPECT_THAT(Next({'z', 'x'}), ElementsAre('y'));
  EXPECT_THAT(Next({'z'}), ElementsAre(kEos));
}

TEST_F(NextTokensTest, AnErrorOfTheGrammarIsTheSequences) {
  Make(ToyGrammarSpec{.places = {{'x', 'y'}, {'x', 'y'}}, .mask_fails_at = 1});
  EXPECT_THAT(Next({'x'}), ElementsAre('x'));
  EXPECT_EQ(Row({'x'}).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(next_.guide_error);
  Make(ToyGrammarSpec{.places = {{'x', 'y'}}, .accept_fails_at = 0});
  EXPECT_EQ(Row({'x'}).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(next_.guide_error);
}

}  // namespace
}  // namespace sheaf

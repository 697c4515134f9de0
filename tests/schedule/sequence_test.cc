#include "router/schedule/step/sequence.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/schedule/byte_tokenizer.h"
#include "tests/schedule/recording_sink.h"
#include "tests/schedule/told_sequence.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

constexpr TokenId kEos = testing::kEndOfText;

class SequenceTest : public ::testing::Test {
 protected:
  Sequence& Make(const StopConditions& stop, int max_model_len = 100) {
    GenerationRequest request;
    request.prompt = {'a', 'b', 'c', 'd'};
    request.stop = stop;
    request.sampling = penalties_;
    request.prompt_logprobs = prompt_logprobs_;
    auto strings = StopStrings::Create(stop.stop_strings);
    sequence_ = std::make_unique<Sequence>(SequenceId(1), std::move(request), sink_,
                                           testing::ByteTokenizer(),
                                           std::make_shared<const StopStrings>(*std::move(strings)),
                                           Sequence::Limits{eos_, max_model_len}, TimePoint{});
    return *sequence_;
  }

  // Tokens until one ends it; "" when none does.
  std::string EndOf(const std::vector<TokenId>& tokens) {
    for (TokenId token : tokens) {
      if (const auto reason = testing::AcceptAndTell(*sequence_, token)) {
        testing::TellEnd(*sequence_, *reason);
        return sink_->WaitForEnd().reason == FinishReason::kStop ? "stop" : "length";
      }
    }
    return "";
  }

  const std::vector<TokenId> eos_ = {kEos};
  std::optional<int32_t> prompt_logprobs_;
  kernels::SamplingParams penalties_;
  std::shared_ptr<testing::RecordingSink> sink_ = std::make_shared<testing::RecordingSink>();
  std::unique_ptr<Sequence> sequence_;
};

TEST_F(SequenceTest, EndsAtAnEosTokenThatIsCountedAndNotShown) {
  Make({.max_tokens = 10});
  EXPECT_EQ(EndOf({'x', 'y', kEos}), "stop");
  EXPECT_EQ(sink_->text(), "xy");
  EXPECT_EQ(sink_->tokens(), (std::vector<TokenId>{'x', 'y', kEos}));
  const GenerationEnd end = sink_->WaitForEnd();
  EXPECT_EQ(end.stop_token, kEos);
  EXPECT_EQ(end.prompt_tokens, 4);
  EXPECT_EQ(end.completion_tokens, 3);
}

TEST_F(SequenceTest, IgnoreEosLeavesTheOtherStopTokens) {
  Make({.max_tokens = 10, .ignore_eos = true, .stop_token_ids = {'!'}});
  EXPECT_EQ(EndOf({'x', kEos, '!'}), "stop");
  EXPECT_EQ(sink_->WaitForEnd().stop_token, '!');
  EXPECT_EQ(sink_->WaitForEnd().completion_tokens, 3);
}

TEST_F(SequenceTest, EndsAtAStopStringAcrossTokensAndHidesIt) {
  Make({.max_tokens = 10, .stop_strings = {"nope", "END"}});
  EXPECT_EQ(EndOf({'x', 'E', 'N', 'D', 'y'}), "stop");
  EXPECT_EQ(sink_->text(), "x");
  EXPECT_EQ(sink_->WaitForEnd().stop_string, "END");
}

TEST_F(SequenceTest, TellsWhereEachTokensTextEndsThoughItIsHeldBack) {
  Make({.max_tokens = 10, .stop_strings = {"END"}});
  EXPECT_EQ(EndOf({'x', 'E', 'N', 'y', kEos}), "stop");
  EXPECT_EQ(sink_->text(), "xENy");
  EXPECT_EQ(sink_->text_ends(), (std::vector<int64_t>{1, 2, 3, 4, 4}));
}

TEST_F(SequenceTest, ShowsTheStopStringWhenAsked) {
  Make({.max_tokens = 10, .stop_strings = {"END"}, .include_stop_string = true});
  EXPECT_EQ(EndOf({'x', 'E', 'N', 'D'}), "stop");
  EXPECT_EQ(sink_->text(), "xEND");
}

TEST_F(SequenceTest, EndsAtMaxTokensAndGivesTheTextHeldBack) {
  Make({.max_tokens = 3, .stop_strings = {"END"}});
  EXPECT_EQ(EndOf({'x', 'E', 'N', 'D'}), "length");
  EXPECT_EQ(sink_->text(), "xEN");
}

TEST_F(SequenceTest, AStopOnTheLastAllowedTokenIsAStop) {
  Make({.max_tokens = 2});
  EXPECT_EQ(EndOf({'x', kEos}), "stop");
}

TEST_F(SequenceTest, EndsAtMaxModelLen) {
  Make({.max_tokens = 100}, 6);
  EXPECT_EQ(EndOf({'x', 'y', 'z'}), "length");
  EXPECT_EQ(sink_->text(), "xy");
}

TEST_F(SequenceTest, MasksStopTokensBeforeMinTokens) {
  Sequence& sequence = Make({.max_tokens = 10, .min_tokens = 2, .stop_token_ids = {'!'}});
  for (int i = 0; i < 2; ++i) {
    const auto masked = sequence.history().masked;
    EXPECT_EQ(std::vector<TokenId>(masked.begin(), masked.end()),
              (std::vector<TokenId>{'!', kEos}));
    EXPECT_FALSE(testing::AcceptAndTell(sequence, 'x').has_value());
  }
  EXPECT_TRUE(sequence.history().masked.empty());
  EXPECT_EQ(EndOf({kEos}), "stop");
}

TEST_F(SequenceTest, AStopStringBeforeMinTokensDoesNotCount) {
  Make({.max_tokens = 10, .min_tokens = 3, .stop_strings = {"b"}});
  EXPECT_EQ(EndOf({'b', 'b', 'b', 'b'}), "stop");
  EXPECT_EQ(sink_->text(), "bbb");
}

TEST_F(SequenceTest, HistoryIsPromptAndOutput) {
  Sequence& sequence = Make({.max_tokens = 10});
  (void)testing::AcceptAndTell(sequence, 'x');
  EXPECT_EQ(sequence.history().prompt.size(), 4u);
  ASSERT_EQ(sequence.history().output.size(), 1u);
  EXPECT_EQ(sequence.history().output[0], 'x');
}

TEST_F(SequenceTest, KeptCountsAreThoseOfTheTokensAndOfWhatIsAhead) {
  std::mt19937_64 random(testing::RandomSeed());
  penalties_ = {.frequency_penalty = 0.5f};
  Sequence& sequence = Make({.max_tokens = 90});
  const auto expect_counts = [&](std::span<const TokenId> ahead) {
    const kernels::SamplingHistory history = sequence.history(ahead);
    ASSERT_NE(history.counts, nullptr);
    std::map<TokenId, int> kept, wanted;
    for (const auto& entry : history.counts->entries()) {
      if (entry.output > 0) kept[entry.id] = static_cast<int>(entry.output);
      EXPECT_EQ(entry.in_prompt, entry.id >= 'a' && entry.id <= 'd') << entry.id;
    }
    for (const TokenId id : history.output) ++wanted[id];
    ASSERT_EQ(kept, wanted);
  };
  for (int t = 0; t < 80; ++t) {
    std::vector<TokenId> ahead(random() % 5);
    for (TokenId& id : ahead) id = static_cast<TokenId>('a' + random() % 8);
    for (size_t i = 0; i <= ahead.size(); ++i) expect_counts(std::span(ahead).first(i));
    if (!ahead.empty()) ahead.back() = 'z';  // another draft of the same length
    expect_counts(ahead);
    (void)testing::AcceptAndTell(sequence, static_cast<TokenId>('a' + random() % 8));
  }
}

TEST_F(SequenceTest, AsksForLogitsOfTheLastTokenOnly) {
  Sequence& sequence = Make({.max_tokens = 10});
  EXPECT_EQ(sequence.FirstLogitToken(3), 3) << "a chunk in the middle";
  EXPECT_FALSE(sequence.ChunkSamples(3));
  sequence.Advance(3);
  EXPECT_TRUE(sequence.ChunkSamples(1));
  EXPECT_EQ(sequence.FirstLogitToken(1), 0);
  EXPECT_EQ(sequence.PromptSlot(2), nullptr);
}

TEST_F(SequenceTest, PromptLogprobsAreAskedForOnceAndSurviveAPreemption) {
  prompt_logprobs_ = 0;
  Sequence& sequence = Make({.max_tokens = 10});
  const auto fill = [&](int num_tokens) {
    int asked = 0;
    sequence.BeginChunk(num_tokens);
    for (int t = sequence.FirstLogitToken(num_tokens); t < num_tokens; ++t) {
      const int position = sequence.computed_tokens + t;
      if (auto* slot = sequence.PromptSlot(position)) {
        EXPECT_FALSE(slot->has_value());
        *slot = TokenLogprobs{{sequence.tokens()[position + 1], -1.0f, 1}, {}};
        ++asked;
      }
    }
    sequence.Advance(num_tokens);
    return asked;
  };
  EXPECT_EQ(fill(2), 2);  // of tokens 1 and 2
  const auto piece = sequence.TakePromptLogprobs();
  ASSERT_TRUE(piece.has_value());
  EXPECT_EQ(piece->first, 0);
  EXPECT_EQ(piece->entries.size(), 3u);
  EXPECT_FALSE(sequence.TakePromptLogprobs().has_value()) << "each once";
  sequence.teller()->Tell(*piece);
  sequence.Restart();
  EXPECT_EQ(sequence.FirstLogitToken(4), 2);
  EXPECT_EQ(fill(1), 0);
  EXPECT_EQ(fill(3), 1);  // of token 3; the last row is sampled
  (void)testing::AcceptAndTell(sequence, 'x');
  ASSERT_TRUE(sink_->prompt_logprobs().has_value());
  ASSERT_EQ(sink_->prompt_logprobs()->size(), 4u);
  EXPECT_FALSE((*sink_->prompt_logprobs())[0].has_value());
  for (int t : {1, 2, 3}) EXPECT_EQ((*sink_->prompt_logprobs())[t]->chosen.token, "abcd"[t]);
  sequence.Restart();
  EXPECT_EQ(sequence.FirstLogitToken(5), 4) << "told already: only the last row matters";
}

}  // namespace
}  // namespace sheaf

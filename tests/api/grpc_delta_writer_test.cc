#include "router/api/grpc/grpc_delta_writer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/api/api_fixture.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using Kind = DeltaWriter::Kind;

TokenEvent Token(TokenId id) {
  TokenEvent event;
  event.token = id;
  return event;
}

class DeltaWriterTest : public testing::Test {
 protected:
  const v1::TokenDelta& delta(size_t i) const { return messages_.at(i).delta(); }

  FakeTextCodec codec_;
  std::vector<v1::GenerateResponse> messages_;
  DeltaWriter writer_{codec_, messages_};
};

TEST_F(DeltaWriterTest, TextOfOneKindSharesADelta) {
  writer_.AddToken(Token(1), Kind::kReasoning);
  writer_.AddReasoning("so ");
  writer_.AddToken(Token(2), Kind::kNone);  // half a character
  writer_.AddToken(Token(3), Kind::kReasoning);
  writer_.AddReasoning("what");
  writer_.AddText("Yes");  // the same token ended the thoughts
  writer_.AddToken(Token(4), Kind::kText);
  writer_.AddText(".");
  ASSERT_EQ(messages_.size(), 2u);
  EXPECT_EQ(delta(0).reasoning(), "so what");
  EXPECT_EQ(delta(0).text(), "");
  EXPECT_THAT(delta(0).token_ids(), ElementsAre(1, 2, 3));
  EXPECT_EQ(delta(1).text(), "Yes.");
  EXPECT_EQ(delta(1).reasoning(), "");
  EXPECT_THAT(delta(1).token_ids(), ElementsAre(4));
}

TEST_F(DeltaWriterTest, ATokenGoesWithItsFirstText) {
  writer_.AddToken(Token(1), Kind::kText);
  writer_.AddText("a");
  writer_.AddToken(Token(2), Kind::kReasoning);
  writer_.AddReasoning("b");
  ASSERT_EQ(messages_.size(), 2u);
  EXPECT_THAT(delta(0).token_ids(), ElementsAre(1));
  EXPECT_THAT(delta(1).token_ids(), ElementsAre(2));
}

TEST_F(DeltaWriterTest, TokensWithoutTextTakeTheNextKind) {
  writer_.AddToken(Token(1), Kind::kNone);
  writer_.AddToken(Token(2), Kind::kToolCalls);
  writer_.BeginCall(0, "id", "f");
  ASSERT_EQ(messages_.size(), 1u);
  EXPECT_THAT(delta(0).token_ids(), ElementsAre(1, 2));
  EXPECT_EQ(delta(0).tool_calls_size(), 1);
}

TEST_F(DeltaWriterTest, CallsAreJoinedByIndex) {
  writer_.BeginCall(0, "call_a", "f");
  writer_.AddCallArguments(0, "{\"x\":");
  writer_.AddCallArguments(0, "1}");
  writer_.EndCall(0);
  writer_.BeginCall(1, "call_b", "g");
  writer_.AddCallArguments(1, "{");
  writer_.AddText("between");
  writer_.AddCallArguments(1, "}");
  writer_.EndCall(1);
  ASSERT_EQ(messages_.size(), 3u);
  ASSERT_EQ(delta(0).tool_calls_size(), 2);
  const auto& first = delta(0).tool_calls(0);
  EXPECT_EQ(first.index(), 0u);
  EXPECT_EQ(first.id(), "call_a");
  EXPECT_EQ(first.name(), "f");
  EXPECT_EQ(first.arguments_json(), "{\"x\":1}");
  EXPECT_TRUE(first.complete());
  EXPECT_FALSE(delta(0).tool_calls(1).complete());
  EXPECT_EQ(delta(1).text(), "between");
  ASSERT_EQ(delta(2).tool_calls_size(), 1);
  const auto& last = delta(2).tool_calls(0);
  EXPECT_EQ(last.index(), 1u);
  EXPECT_FALSE(last.has_id() || last.has_name());
  EXPECT_EQ(last.arguments_json(), "}");
  EXPECT_TRUE(last.complete());
}

// Of 1,000 prompt tokens and then 1,000 generated ones, each with about 2 KB of log-probabilities.
TEST_F(DeltaWriterTest, LargeLogprobsAreCutIntoSeveralDeltas) {
  TokenLogprobs entry = ByteLogprobs('a', 1);
  for (int i = 0; i < 100; ++i) entry.top.push_back({'b', -2.0f, i + 2});
  PromptLogprobs prompt(1);
  for (TokenId id = 1; id < 1000; ++id) {
    entry.chosen.token = id % 256;
    prompt.emplace_back(entry);
  }
  writer_.AddPromptLogprobs(prompt);
  const size_t prompt_messages = messages_.size();
  EXPECT_GT(prompt_messages, 2u);
  for (TokenId id = 0; id < 1000; ++id) {
    TokenEvent event = Token(id);
    event.logprobs = entry;
    writer_.AddToken(event, Kind::kText);
    writer_.AddText("x");
  }
  EXPECT_GT(messages_.size(), prompt_messages + 2);

  int prompt_entries = 0;
  uint32_t next = 0;
  std::string text;
  for (size_t i = 0; i < messages_.size(); ++i) {
    EXPECT_LE(delta(i).ByteSizeLong(), DeltaWriter::kMaxDeltaBytes + 64);
    EXPECT_EQ(delta(i).logprobs_size(), delta(i).token_ids_size());
    EXPECT_EQ(delta(i).prompt_logprobs_size() > 0, i < prompt_messages);
    for (const auto& logprobs : delta(i).prompt_logprobs()) {
      EXPECT_EQ(logprobs.has_chosen(), prompt_entries > 0);
      if (logprobs.has_chosen()) {
        EXPECT_EQ(logprobs.chosen().token_id(), static_cast<uint32_t>(prompt_entries % 256));
      }
      ++prompt_entries;
    }
    for (const uint32_t id : delta(i).token_ids()) EXPECT_EQ(id, next++);
    text += delta(i).text();
  }
  EXPECT_EQ(prompt_entries, 1000);
  EXPECT_EQ(next, 1000u);
  EXPECT_EQ(text, std::string(1000, 'x'));
}

TEST_F(DeltaWriterTest, OneLargerTokenPassesAlone) {
  TokenEvent large = Token(2);
  large.logprobs = ByteLogprobs('a', 0);
  for (int i = 0; i < 60000; ++i) large.logprobs->top.push_back({'b', -2.0f, i});
  writer_.AddToken(Token(1), Kind::kNone);
  writer_.AddToken(large, Kind::kNone);
  writer_.AddToken(Token(3), Kind::kNone);
  ASSERT_EQ(messages_.size(), 3u);
  EXPECT_THAT(delta(1).token_ids(), ElementsAre(2));
  EXPECT_GT(delta(1).ByteSizeLong(), DeltaWriter::kMaxDeltaBytes);
  EXPECT_THAT(delta(2).token_ids(), ElementsAre(3));
}

}  // namespace
}  // namespace sheaf

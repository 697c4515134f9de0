#include "cli/chat/conversation.h"

#include <gtest/gtest.h>

#include <string>

#include "cli/chat/answer.h"

namespace sheaf {
namespace {

v1::TokenDelta TextDelta(const std::string& text) {
  v1::TokenDelta delta;
  delta.set_text(text);
  return delta;
}

v1::TokenDelta ReasoningDelta(const std::string& text) {
  v1::TokenDelta delta;
  delta.set_reasoning(text);
  return delta;
}

v1::ToolCallDelta* AddPiece(v1::TokenDelta& delta, uint32_t index, const std::string& arguments) {
  v1::ToolCallDelta* const piece = delta.add_tool_calls();
  piece->set_index(index);
  piece->set_arguments_json(arguments);
  return piece;
}

// One word a message: "user:a assistant:b".
std::string Summary(const v1::ChatInput& chat) {
  std::string summary;
  for (const v1::ChatMessage& message : chat.messages()) {
    summary += (summary.empty() ? "" : " ") + message.role() + ":" + message.content();
  }
  return summary;
}

v1::ChatMessage AnswerOf(const std::string& text) {
  Answer answer;
  answer.Add(TextDelta(text));
  return answer.Message();
}

TEST(Conversation, EachTurnSeesThoseBefore) {
  Conversation conversation;
  EXPECT_EQ(Summary(conversation.Next("a")), "user:a");
  conversation.AddTurn("a", AnswerOf("b"));
  EXPECT_EQ(Summary(conversation.Next("c")), "user:a assistant:b user:c");
}

TEST(Conversation, AQuestionWithoutAnswerLeavesNothing) {
  Conversation conversation;
  conversation.AddTurn("a", AnswerOf("b"));
  (void)conversation.Next("lost");
  EXPECT_EQ(Summary(conversation.Next("c")), "user:a assistant:b user:c");
}

TEST(Conversation, ResetKeepsTheSystemMessage) {
  Conversation conversation;
  conversation.SetSystem("s");
  conversation.AddTurn("a", AnswerOf("b"));
  EXPECT_EQ(Summary(conversation.Next("c")), "system:s user:a assistant:b user:c");
  conversation.Reset();
  EXPECT_EQ(Summary(conversation.Next("c")), "system:s user:c");
  conversation.SetSystem("");
  EXPECT_EQ(Summary(conversation.Next("c")), "user:c");
}

TEST(Answer, KeepsThoughtsApartFromText) {
  Answer answer;
  answer.Add(ReasoningDelta("th"));
  answer.Add(ReasoningDelta("ink"));
  EXPECT_FALSE(answer.has_content());
  answer.Add(TextDelta("said"));
  answer.AddText(" last");
  EXPECT_TRUE(answer.has_content());
  const v1::ChatMessage message = answer.Message();
  EXPECT_EQ(message.role(), "assistant");
  EXPECT_EQ(message.reasoning_content(), "think");
  EXPECT_EQ(message.content(), "said last");
}

TEST(Answer, PutsCallsTogetherAndLeavesOutThoseCutOff) {
  Answer answer;
  v1::TokenDelta first, second;
  v1::ToolCallDelta* const begin = AddPiece(first, 0, "{\"a\"");
  begin->set_id("call_1");
  begin->set_name("f");
  answer.Add(first);
  EXPECT_FALSE(answer.has_content());
  AddPiece(second, 0, ":1}")->set_complete(true);
  AddPiece(second, 1, "{\"b\":")->set_name("g");
  answer.Add(second);
  EXPECT_TRUE(answer.has_content());
  const v1::ChatMessage message = answer.Message();
  ASSERT_EQ(message.tool_calls_size(), 1);
  EXPECT_EQ(message.tool_calls(0).id(), "call_1");
  EXPECT_EQ(message.tool_calls(0).name(), "f");
  EXPECT_EQ(message.tool_calls(0).arguments_json(), "{\"a\":1}");
}

}  // namespace
}  // namespace sheaf

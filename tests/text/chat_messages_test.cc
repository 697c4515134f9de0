// What NormalizeChatMessages makes of the messages that clients really send.

#include <string>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "router/text/chat_template.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::string OneMessage(const std::string& message) { return absl::StrFormat("[%s]", message); }

Json Normalized(const std::string& message) {
  auto text = NormalizeChatMessages(OneMessage(message));
  if (!text.ok()) return std::string(text.status().message());
  return Json::parse(*text)[0];
}

std::string Error(const std::string& messages) {
  auto text = NormalizeChatMessages(messages);
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << messages;
  return std::string(text.status().message());
}

std::string CallWithArguments(const std::string& arguments) {
  return R"({"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f")" +
         arguments + "}}]}";
}

TEST(ChatMessagesTest, MessagesThatAreRightStayAsTheyAre) {
  const std::string message = R"({"role":"user","content":"Hi","name":"ann"})";
  EXPECT_EQ(*NormalizeChatMessages(OneMessage(message)), OneMessage(message));
}

TEST(ChatMessagesTest, NoContentIsEmptyAndNeverNone) {
  EXPECT_EQ(Normalized(R"({"role": "assistant", "content": null})")["content"], "");
  EXPECT_EQ(Normalized(R"({"role": "assistant"})")["content"], "");
  EXPECT_EQ(Normalized(R"({"role": "user", "content": []})")["content"], "");
}

TEST(ChatMessagesTest, TextPartsBecomeOneString) {
  const std::string parts =
      R"([{"type": "text", "text": "12"}, ":", {"type": "text", "text": "00"}])";
  EXPECT_EQ(Normalized(R"({"role": "user", "content": )" + parts + "}")["content"], "12:00");
  EXPECT_EQ(Normalized(R"({"role": "tool", "content": )" + parts + "}")["content"], "12:00");
}

TEST(ChatMessagesTest, DeveloperIsSystem) {
  EXPECT_EQ(Normalized(R"({"role": "developer", "content": "d"})")["role"], "system");
}

TEST(ChatMessagesTest, ToolCallArgumentsAsTextBecomeAnObjectInTheirOrder) {
  const Json message =
      Normalized(CallWithArguments(R"(, "arguments": "{\"z\": 1, \"a\": {\"k\": [2.5]}}")"));
  EXPECT_EQ(message["tool_calls"][0]["function"]["arguments"].dump(), R"({"z":1,"a":{"k":[2.5]}})");
}

TEST(ChatMessagesTest, ACallWithoutArgumentsHasAnEmptyObject) {
  for (const char* arguments : {"", R"(, "arguments": "")", R"(, "arguments": null)",
                                R"(, "arguments": "{}")", R"(, "arguments": {})"}) {
    const Json message = Normalized(CallWithArguments(arguments));
    EXPECT_EQ(message["tool_calls"][0]["function"]["arguments"], Json::object()) << arguments;
  }
}

TEST(ChatMessagesTest, ReasoningIsKnownByBothNames) {
  EXPECT_EQ(
      Normalized(R"({"role": "assistant", "content": "c", "reasoning": "r"})")["reasoning_content"],
      "r");
  EXPECT_EQ(Normalized(R"({"role": "assistant", "reasoning": null, "reasoning_content": "r"})")
                ["reasoning_content"],
            "r");
  EXPECT_FALSE(Normalized(R"({"role": "assistant", "reasoning_content": null})")
                   .contains("reasoning_content"));
  EXPECT_FALSE(Normalized(R"({"role": "assistant", "tool_calls": null})").contains("tool_calls"));
}

TEST(ChatMessagesTest, WhatATemplateWouldGarbleSilentlyIsAnErrorWithItsPath) {
  struct Case {
    std::string messages;
    const char* want;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"{}", "messages must be an array, got an object"},
           {"[]", "messages must not be empty"},
           {"[1]", "messages[0] must be an object, got a number"},
           {R"([{"content": "x"}])", "messages[0].role is missing"},
           {R"([{"role": 1}])", "messages[0].role must be a string"},
           {R"([{"role": "user", "content": "x"}, {"role": "bot"}])",
            "messages[1].role is \"bot\""},
           {R"([{"role": "user", "content": 7}])",
            "messages[0].content must be a string or an array"},
           {R"([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])",
            "messages[0].content[0].type is \"image_url\", only \"text\""},
           {R"([{"role": "user", "content": [{"type": "text"}]}])", "messages[0].content[0].text"},
           {R"([{"role": "user", "content": [{}]}])", "messages[0].content[0].type"},
           {R"([{"role": "user", "content": [null]}])", "messages[0].content[0] must be an object"},
           {R"([{"role": "assistant", "reasoning": 3}])",
            "messages[0].reasoning_content must be a string"},
           {R"([{"role": "assistant", "tool_calls": {}}])",
            "messages[0].tool_calls must be an array"},
           {R"([{"role": "assistant", "tool_calls": [3]}])",
            "messages[0].tool_calls[0] must be an object"},
           {R"([{"role": "assistant", "tool_calls": [{}]}])",
            "messages[0].tool_calls[0].function is missing"},
           {R"([{"role": "assistant", "tool_calls": [{"function": {"name": ""}}]}])",
            "function.name"},
           {OneMessage(CallWithArguments(R"(, "arguments": "{")")),
            "messages[0].tool_calls[0].function.arguments is not valid JSON"},
           {OneMessage(CallWithArguments(R"(, "arguments": "[1]")")),
            "must be a JSON object, got an array"},
           {OneMessage(CallWithArguments(R"(, "arguments": 3)")), "got a number"}}) {
    EXPECT_THAT(Error(c.messages), HasSubstr(c.want)) << c.messages;
  }
}

}  // namespace
}  // namespace sheaf

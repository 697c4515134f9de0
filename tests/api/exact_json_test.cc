// Integers of any length come through a request's JSON with their digits.
#include "router/api/request/json/exact_json.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router/api/openai/openai_request.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

const std::string kDigits(80, '9');

std::string Again(const std::string& text) { return DumpExactJson(ParseExactJson(text)); }

TEST(ExactJson, IntegersBeyond64BitsKeepTheirDigits) {
  for (const std::string& number :
       {kDigits, "-" + kDigits, std::string("18446744073709551616"),
        std::string("-9223372036854775809"), std::string("18446744073709551615"),
        std::string("-9223372036854775808"), std::string("0")}) {
    EXPECT_EQ(Again(number), number);
    EXPECT_EQ(Again("{\"b\":[" + number + ",1],\"a\":{}}"), "{\"b\":[" + number + ",1],\"a\":{}}");
  }
  EXPECT_EQ(Again("[1.5, 1e2, 0.1, true, null, \"é\\n\", [], {}]"),
            "[1.5,100.0,0.1,true,null,\"é\\n\",[],{}]");
}

TEST(ExactJson, IsWhatTheParserOfTheLibrarySays) {
  for (const char* text :
       {"{\"a\": 1, \"b\": 2, \"a\": 3}", "[[[]]]", "\"x\"", "{\"\": {\"a\": [1, -2]}}", "1e5",
        "{\"b\": 1, \"a\": [{\"c\": null}, {\"d\": false}]}"}) {
    EXPECT_EQ(ParseExactJson(text), Json::parse(text)) << text;
  }
  for (const char* text : {"", "{", "[1,]", "{\"a\"}", "01", "1e999", "\"\xFF\"", "[1] 2"}) {
    std::string error;
    EXPECT_TRUE(ParseExactJson(text, &error).is_discarded()) << text;
    EXPECT_THAT(error, HasSubstr("[json.exception")) << text;
  }
}

// The library's parser would end there.
TEST(ExactJson, ANulByteEndsNothing) {
  using std::string_literals::operator""s;
  for (const std::string& text :
       {"{}\0"s, "{\"a\": 1}\0{\"a\": 2}"s, "\0{}"s, "[1\0]"s, "\"a\0b\""s}) {
    std::string error;
    EXPECT_TRUE(ParseExactJson(text, &error).is_discarded());
    EXPECT_EQ(error, "a NUL byte");
  }
  EXPECT_EQ(ParseExactJson(R"("a\u0000b")"), Json("a\0b"s));
  EXPECT_TRUE(std::holds_alternative<ApiError>(ParseRequestJson("{\"prompt\": \"a\"}\0x"s)));
}

TEST(ExactJson, ChatsToolsAndTemplateArgumentsArriveWithTheirDigits) {
  const std::string body = R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant",
      "tool_calls": [{"function": {"name": "f", "arguments": {"n": )" + kDigits + R"(}}}]}],
      "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object",
      "properties": {"n": {"maximum": )" + kDigits + R"(}}}}}],
      "chat_template_kwargs": {"n": )" + kDigits + "}}";
  auto parsed = ParseChatBody(body);
  ASSERT_TRUE(std::holds_alternative<OpenAiRequest>(parsed));
  const ChatInput& chat = *std::get<OpenAiRequest>(parsed).request.chat;
  EXPECT_THAT(chat.messages_json, HasSubstr("{\"n\":" + kDigits + "}"));
  ASSERT_EQ(chat.tools.size(), 1u);
  EXPECT_THAT(chat.tools[0].definition_json, HasSubstr("{\"maximum\":" + kDigits + "}"));
  EXPECT_EQ(chat.template_arguments_json, "{\"n\":" + kDigits + "}");
}

TEST(ExactJson, WhereANumberIsWantedALongIntegerIsOne) {
  const Json value = ParseExactJson(kDigits);
  EXPECT_EQ(AsNumber(value), 1e80);
  EXPECT_EQ(AsInteger(value), std::nullopt);
  EXPECT_EQ(AsBool(value), std::nullopt);
}

}  // namespace
}  // namespace sheaf

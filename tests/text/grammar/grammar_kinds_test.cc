// What each kind of grammar takes and what it does not, on texts written by hand.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/text/grammar/grammar_harness.h"

namespace sheaf {
namespace {

using testing::GrammarHarness;
using ::testing::HasSubstr;
using testing::Spec;
using ::testing::StartsWith;

struct Case {
  const char* name;
  GrammarKind kind;
  const char* text;
  std::vector<std::string> taken;
  std::vector<std::string> refused;
};

const Case kCases[] = {
    {"object",
     GrammarKind::kJsonSchema,
     R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},
         "required":["a"],"additionalProperties":false})",
     {R"({"a":1})", R"({"a":-20,"b":"x"})", "{\"a\":0,\"b\":\"\xC3\xA9\"}"},
     {R"({})", R"({"b":"x"})", R"({"a":1.5})", R"({"a": 1})", R"({"a":1,"c":2})", R"({"a":01})",
      R"({"a":1}x)", R"([])"}},
    {"json_object",
     GrammarKind::kJsonObject,
     "",
     {R"({})", R"({"a":[1,{"b":null}]})"},
     {R"([1])", "1", R"({"a":})", "{ }"}},
    {"bounds",
     GrammarKind::kJsonSchema,
     R"({"type":"array","items":{"type":"integer","minimum":3,"maximum":12},"minItems":1,"maxItems":3})",
     {"[3]", "[3,12,7]"},
     {"[]", "[2]", "[13]", "[3,3,3,3]"}},
    {"number",
     GrammarKind::kJsonSchema,
     R"({"type":"number"})",
     {"0", "-1.5", "6.02e23", "1E-7"},
     {"01", ".5", "+1", "1.", "1e", "0x1"}},
    {"above",
     GrammarKind::kJsonSchema,
     R"({"type":"number","exclusiveMinimum":0,"exclusiveMaximum":0.5})",
     {"0.1", "0.4999"},
     {"0", "0.0", "0.5", "1"}},
    {"below",
     GrammarKind::kJsonSchema,
     R"({"type":"number","minimum":-0.5,"exclusiveMaximum":0})",
     {"-0.5", "-0.1"},
     {"-0", "0", "-0.0", "-0.6"}},
    {"negated", GrammarKind::kLark, "start: ~\"(\"", {"ab)", ""}, {"<think>", "("}},
    {"integer",
     GrammarKind::kJsonSchema,
     R"({"type":"integer"})",
     {"0", "-1", "9000000000000000000", "1234567890123456789"},
     {"9223372036854775808", "1.0", "-"}},
    {"string",
     GrammarKind::kJsonSchema,
     R"({"type":"string","minLength":2,"maxLength":3})",
     {R"("ab")", "\"\xE4\xBD\xA0\xE4\xBD\xA0\xE4\xBD\xA0\"", R"("a\n")"},
     {R"("a")", R"("abcd")"}},
    {"pattern",
     GrammarKind::kJsonSchema,
     R"({"type":"string","pattern":"^[a-z]+\\d$"})",
     {R"("ab1")"},
     {R"("ab")", R"("1")", R"("ab1x")"}},
    {"unanchored",
     GrammarKind::kJsonSchema,
     R"({"type":"string","pattern":"[0-9]"})",
     {R"("a1b")", R"("1")"},
     {R"("ab")"}},
    {"format",
     GrammarKind::kJsonSchema,
     R"({"type":"string","format":"date"})",
     {R"("2024-02-29")"},
     {R"("2024-13-01")", R"("today")"}},
    {"enum",
     GrammarKind::kJsonSchema,
     R"({"enum":["a",1,null,true]})",
     {R"("a")", "1", "null", "true"},
     {R"("b")", "2", "false"}},
    {"one_of_by_type",
     GrammarKind::kJsonSchema,
     R"({"oneOf":[{"type":"integer"},{"type":"string"}]})",
     {"1", R"("a")"},
     {"true"}},
    {"one_of_by_const",
     GrammarKind::kJsonSchema,
     R"({"oneOf":[{"$ref":"#/$defs/cat"},{"$ref":"#/$defs/dog"}],"discriminator":{"propertyName":"t"},
         "$defs":{"cat":{"type":"object","properties":{"t":{"const":"cat"},"n":{"type":"integer"}},
                         "required":["t","n"],"additionalProperties":false},
                  "dog":{"type":"object","properties":{"t":{"const":"dog"}},"required":["t"],
                         "additionalProperties":false}}})",
     {R"({"t":"cat","n":3})", R"({"t":"dog"})"},
     {R"({"t":"dog","n":3})", R"({"t":"cow"})"}},
    {"recursion",
     GrammarKind::kJsonSchema,
     R"({"type":"object","properties":{"v":{"type":"integer"},"next":{"$ref":"#"}},
         "required":["v"],"additionalProperties":false})",
     {R"({"v":1})", R"({"v":1,"next":{"v":2,"next":{"v":3}}})"},
     {R"({"next":{"v":1}})"}},
    {"union_with_itself",
     GrammarKind::kJsonSchema,
     R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})",
     {"null"},
     {"1"}},
    {"all_of",
     GrammarKind::kJsonSchema,
     R"({"allOf":[{"type":"integer","minimum":3},{"maximum":5}]})",
     {"3", "5"},
     {"2", "6"}},
    {"regex", GrammarKind::kRegex, R"([a-c]{2,3}|x/y)", {"ab", "abc", "x/y"}, {"a", "abcd", "xy"}},
    {"regex_anchored", GrammarKind::kRegex, R"(^(\d+)$)", {"12"}, {"", "a"}},
    {"regex_empty", GrammarKind::kRegex, "", {""}, {"a"}},
    {"regex_lines", GrammarKind::kRegex, "a\nb", {"a\nb"}, {"ab"}},
    {"choice",
     GrammarKind::kChoice,
     R"(["yes","no","yes, but \"so\"\n",""])",
     {"yes", "no", "yes, but \"so\"\n", ""},
     {"maybe", "ye", "yesno"}},
    {"lark",
     GrammarKind::kLark,
     "start: \"a\" item+\nitem: /[0-9]/ | \"(\" item \")\"",
     {"a1", "a(1)2", "a((3))"},
     {"a", "a()", "1"}},
    {"lark_token",
     GrammarKind::kLark,
     "start: <tool_call> /[a-z]+/ </tool_call>",
     {"<tool_call>ab</tool_call>"},
     {"ab", "<tool_call></tool_call>"}},
    {"lark_json",
     GrammarKind::kLark,
     "start: \"=\" %json {\"type\":\"integer\",\"x-guidance\":{\"whitespace_flexible\":false}}",
     {"=12"},
     {"= 12", "=a"}},
};

TEST(GrammarKindsTest, TakesAndRefuses) {
  const GrammarHarness harness;
  for (const Case& c : kCases) {
    const GrammarSpec spec = Spec(c.kind, c.text);
    for (const std::string& text : c.taken) {
      EXPECT_EQ(harness.Run(spec, text), "ok") << c.name << ": " << text;
    }
    for (const std::string& text : c.refused) {
      const std::string result = harness.Run(spec, text);
      EXPECT_TRUE(result == "incomplete" || result.starts_with("stuck at"))
          << c.name << ": " << text << ": " << result;
    }
  }
}

TEST(GrammarKindsTest, WhiteSpaceOnlyWhereAsked) {
  const GrammarHarness harness;
  GrammarSpec spec =
      Spec(GrammarKind::kJsonSchema, R"({"type":"array","items":{"type":"integer"}})");
  EXPECT_EQ(harness.Run(spec, "[1,2]"), "ok");
  EXPECT_THAT(harness.Run(spec, "[1, 2]"), StartsWith("stuck"));
  spec.any_whitespace = true;
  EXPECT_EQ(harness.Run(spec, "[1, 2\n]"), "ok");
}

TEST(GrammarKindsTest, ControlTokensAreNeverAllowed) {
  const GrammarHarness harness;
  const auto user = *harness.tokenizer().FindToken("<|user|>");
  const auto think = *harness.tokenizer().FindToken("<think>");
  for (const char* lark : {"start: /(?s:.*)/", "start: <[*]>*", "start: /a*/ <[0-100]>*"}) {
    GrammarMatcher matcher = harness.Matcher(Spec(GrammarKind::kLark, lark));
    std::vector<uint32_t> mask(matcher.MaskWords());
    ASSERT_TRUE(matcher.ComputeMask(mask).ok()) << lark;
    EXPECT_FALSE(testing::IsAllowed(mask, user)) << lark;
    EXPECT_EQ(matcher.Accept(user).code(), absl::StatusCode::kInvalidArgument) << lark;
    EXPECT_EQ(testing::IsAllowed(mask, think), std::string_view(lark) == "start: <[*]>*") << lark;
    EXPECT_EQ(matcher.Accept('a').code(), absl::StatusCode::kOk) << lark;
  }
  EXPECT_THAT(harness.Run(Spec(GrammarKind::kLark, "start: <|user|>"), ""),
              HasSubstr("unknown special token"));
}

// A tag in a JSON string is text there; the token of that name stays out.
TEST(GrammarKindsTest, AddedTokensStayOutOfStrings) {
  const GrammarHarness harness;
  GrammarMatcher matcher =
      harness.Matcher(Spec(GrammarKind::kJsonSchema, R"({"const":"<think>"})"));
  const auto think = *harness.tokenizer().FindToken("<think>");
  std::string text;
  std::vector<uint32_t> mask(matcher.MaskWords());
  for (int step = 0; step < 20 && !matcher.finished(); ++step) {
    ASSERT_TRUE(matcher.ComputeMask(mask).ok());
    EXPECT_FALSE(testing::IsAllowed(mask, think)) << text;
    const std::vector<TokenId> forced = matcher.ForcedTokens();
    ASSERT_FALSE(forced.empty());
    for (const TokenId token : forced) {
      ASSERT_TRUE(matcher.Accept(token).ok());
      text += harness.tokenizer().TokenBytes(token);
    }
  }
  EXPECT_EQ(text, R"("<think>")");
}

}  // namespace
}  // namespace sheaf

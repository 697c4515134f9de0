// Tool calls in both formats, with the tags as tokens and as text.

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/text/grammar/grammar_harness.h"

namespace sheaf {
namespace {

using testing::GrammarHarness;
using ::testing::HasSubstr;

constexpr const char* kWeather = R"({
  "type": "object",
  "properties": {
    "city": {"type": "string"},
    "days": {"type": "integer", "minimum": 1, "maximum": 7},
    "unit": {"enum": ["c", "f"]},
    "where": {"$ref": "#/$defs/point"}
  },
  "required": ["city"],
  "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"],
                      "additionalProperties": false}}
})";

GrammarSpec Calls(ToolCallFormat format, int min_calls = 1, int max_calls = -1) {
  GrammarSpec spec;
  spec.kind = GrammarKind::kToolCalls;
  spec.tool_calls.format = format;
  spec.tool_calls.tools = {{"weather", kWeather, true}, {"now", "", true}};
  spec.tool_calls.min_calls = min_calls;
  spec.tool_calls.max_calls = max_calls;
  return spec;
}

// One tool with one argument "v" of this schema, and a call with that raw value.
GrammarSpec OneValue(const std::string& schema) {
  GrammarSpec spec = Calls(ToolCallFormat::kGlm47);
  spec.tool_calls.tools = {
      {"f", R"({"type":"object","properties":{"v":)" + schema + R"(},"required":["v"]})", true}};
  return spec;
}

std::string CallWith(const std::string& value) {
  return "<tool_call>f<arg_key>v</arg_key><arg_value>" + value + "</arg_value></tool_call>";
}

class ToolCallsTest : public ::testing::TestWithParam<bool> {
 protected:
  const GrammarHarness harness_{GetParam()};

  void ExpectTaken(const GrammarSpec& spec, const std::string& text) {
    EXPECT_EQ(harness_.Run(spec, text), "ok") << text;
  }
  void ExpectRefused(const GrammarSpec& spec, const std::string& text) {
    const std::string result = harness_.Run(spec, text);
    EXPECT_TRUE(result == "incomplete" || result.starts_with("stuck at")) << text << ": " << result;
  }
};

INSTANTIATE_TEST_SUITE_P(Tags, ToolCallsTest, ::testing::Bool(),
                         [](const auto& tags) { return tags.param ? "AsTokens" : "AsText"; });

TEST_P(ToolCallsTest, WithNewlines) {
  const GrammarSpec spec = Calls(ToolCallFormat::kGlm45);
  const std::string now = "<tool_call>now\n</tool_call>";
  const std::string city =
      "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome\n(old)</arg_value>\n";
  ExpectTaken(spec, now);
  ExpectTaken(spec, "\n" + now);
  ExpectTaken(spec, now + "\n" + now);
  ExpectTaken(spec, city + "</tool_call>");
  ExpectTaken(spec,
              city +
                  "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n"
                  "<arg_key>where</arg_key>\n<arg_value>{\"x\":1.5}</arg_value>\n</tool_call>");
  ExpectRefused(spec, "");
  ExpectRefused(spec, "text" + now);
  ExpectRefused(spec, now + now);
  ExpectRefused(spec, "<tool_call>now</tool_call>");
  ExpectRefused(spec, "<tool_call>other\n</tool_call>");
  ExpectRefused(spec, "<tool_call>weather\n</tool_call>");
  ExpectRefused(spec, city + "<arg_key>days</arg_key>\n<arg_value>8</arg_value>\n</tool_call>");
  ExpectRefused(spec, city + "<arg_key>days</arg_key>\n<arg_value>\"3\"</arg_value>\n</tool_call>");
  ExpectRefused(spec, city + "<arg_key>else</arg_key>\n<arg_value>3</arg_value>\n</tool_call>");
}

TEST_P(ToolCallsTest, WithoutNewlines) {
  const GrammarSpec spec = Calls(ToolCallFormat::kGlm47);
  const std::string now = "<tool_call>now</tool_call>";
  const std::string city = "<tool_call>weather<arg_key>city</arg_key><arg_value>Rome</arg_value>";
  ExpectTaken(spec, now + now);
  ExpectTaken(spec, city + "<arg_key>unit</arg_key><arg_value>f</arg_value></tool_call>");
  ExpectRefused(spec, now + "\n" + now);
  ExpectRefused(spec, city + "<arg_key>unit</arg_key><arg_value>k</arg_value></tool_call>");
  ExpectRefused(spec, city + "<arg_key>unit</arg_key><arg_value>\"f\"</arg_value></tool_call>");
}

TEST_P(ToolCallsTest, NumberOfCalls) {
  const std::string now = "<tool_call>now</tool_call>";
  const GrammarSpec one = Calls(ToolCallFormat::kGlm47, 1, 1);
  ExpectTaken(one, now);
  ExpectRefused(one, now + now);
  const GrammarSpec some = Calls(ToolCallFormat::kGlm47, 2, 3);
  ExpectRefused(some, now);
  ExpectTaken(some, now + now);
  ExpectTaken(some, now + now + now);
  ExpectRefused(some, now + now + now + now);
  const GrammarSpec maybe = Calls(ToolCallFormat::kGlm47, 0, -1);
  ExpectTaken(maybe, "");
  ExpectTaken(maybe, now + now);
  const GrammarSpec none = Calls(ToolCallFormat::kGlm47, 0, 0);
  ExpectTaken(none, "");
  ExpectRefused(none, now);
}

TEST_P(ToolCallsTest, TextAround) {
  for (const ToolCallFormat format : {ToolCallFormat::kGlm45, ToolCallFormat::kGlm47}) {
    GrammarSpec spec = Calls(format, 0, -1);
    spec.tool_calls.text_around = true;
    const std::string now = format == ToolCallFormat::kGlm45 ? "<tool_call>now\n</tool_call>"
                                                             : "<tool_call>now</tool_call>";
    ExpectTaken(spec, "");
    ExpectTaken(spec, "Only text, 1 < 2.");
    ExpectTaken(spec, "Let me see.\n" + now + "\nand\n" + now + now + " done <tool");
    ExpectRefused(spec, "Let me see.<tool_call>other");
    ExpectRefused(spec, "Let me see.<tool_call>now");
    spec.tool_calls.min_calls = 1;
    ExpectRefused(spec, "Only text.");
    ExpectTaken(spec, "text" + now);
  }
}

TEST_P(ToolCallsTest, AnswerInsteadOfCalls) {
  for (const ToolCallFormat format : {ToolCallFormat::kGlm45, ToolCallFormat::kGlm47}) {
    const bool lines = format == ToolCallFormat::kGlm45;
    const std::string now = lines ? "<tool_call>now\n</tool_call>" : "<tool_call>now</tool_call>";
    const std::string two = now + (lines ? "\n" : "") + now;
    GrammarSpec spec = Calls(format, 0, -1);
    const auto answer = [&spec](GrammarKind kind, const std::string& text, bool white = false) {
      GrammarSpec other = testing::Spec(kind, text);
      other.any_whitespace = white;
      spec.tool_calls.or_answer = std::make_shared<const GrammarSpec>(std::move(other));
    };
    const auto calls_are_held = [&] {
      ExpectTaken(spec, now);
      ExpectTaken(spec, two);
      ExpectRefused(spec, "<tool_call>other");
      ExpectRefused(spec, now + "{\"a\":1}");
      ExpectRefused(spec, now.substr(0, now.size() - 1));
    };
    answer(GrammarKind::kJsonSchema,
           R"({"type":"object","properties":{"a":{"$ref":"#/$defs/n"}},"required":["a"],
               "additionalProperties":false,"$defs":{"n":{"type":"integer"}}})");
    calls_are_held();
    ExpectTaken(spec, "{\"a\":1}");
    ExpectRefused(spec, "");
    ExpectRefused(spec, "{\"a\":\"1\"}");
    ExpectRefused(spec, "{\"a\":1}" + now);
    ExpectRefused(spec, "text");
    answer(GrammarKind::kJsonObject, "", /*white=*/true);
    calls_are_held();
    ExpectTaken(spec, "{ \"<tool_cal\" : [1,\n2] }");
    answer(GrammarKind::kChoice, R"(["yes","no",""])");
    calls_are_held();
    ExpectTaken(spec, "yes");
    ExpectTaken(spec, "");
    ExpectRefused(spec, "yesno");
    answer(GrammarKind::kRegex, "[a-z ]{3,}");
    calls_are_held();
    ExpectTaken(spec, "some words");
    ExpectRefused(spec, "ab");
    answer(GrammarKind::kLark,
           "start: r0 T0 // of its own\nr0: \"(\" r0 \")\" | \"x\"\nT0: /[!?]{1,2}/");
    calls_are_held();
    ExpectTaken(spec, "((x))?!");
    ExpectRefused(spec, "((x)?");
    answer(GrammarKind::kStructuralTag,
           R"({"type":"structural_tag","format":{"type":"tag","begin":"<a>","end":"</a>",
               "content":{"type":"json_schema","json_schema":{"type":"integer"}}}})");
    calls_are_held();
    ExpectTaken(spec, "<a>7</a>");
    ExpectRefused(spec, "<a>x</a>");
    // How many calls, if any: the answer is there either way.
    answer(GrammarKind::kChoice, R"(["yes"])");
    spec.tool_calls.min_calls = 2;
    spec.tool_calls.max_calls = 2;
    ExpectTaken(spec, "yes");
    ExpectTaken(spec, two);
    ExpectRefused(spec, now);
    spec.tool_calls.min_calls = 0;
    spec.tool_calls.max_calls = 0;
    ExpectTaken(spec, "yes");
    ExpectRefused(spec, now);
  }
}

// Any text as the answer leaves calls possible where the tags are tokens.
TEST(ToolCallAnswerTest, AnyTextOrCalls) {
  const GrammarHarness harness;
  GrammarSpec spec = Calls(ToolCallFormat::kGlm45, 0, -1);
  spec.tool_calls.or_answer =
      std::make_shared<const GrammarSpec>(testing::Spec(GrammarKind::kRegex, "(?s:.*)"));
  EXPECT_EQ(harness.Run(spec, "\nany text"), "ok");
  EXPECT_EQ(harness.Run(spec, "\n<tool_call>now\n</tool_call>"), "ok");
  EXPECT_EQ(harness.Run(spec, "\n<tool_call>other\n</tool_call>"), "stuck at `\n<tool_call>`");
}

TEST(ToolCallAnswerTest, ErrorsNameThePlace) {
  const GrammarHarness harness;
  const auto message = [&harness](GrammarSpec answer, bool text_around = false) {
    GrammarSpec spec = Calls(ToolCallFormat::kGlm47);
    spec.tool_calls.text_around = text_around;
    spec.tool_calls.or_answer = std::make_shared<const GrammarSpec>(std::move(answer));
    const auto compiled = harness.compiler().Compile(spec);
    EXPECT_EQ(compiled.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(compiled.status().message());
  };
  EXPECT_THAT(message(testing::Spec(GrammarKind::kJsonSchema, R"({"not":{}})")),
              HasSubstr("JSON schema $.not: the keyword is not supported"));
  EXPECT_THAT(message(testing::Spec(GrammarKind::kJsonSchema,
                                    R"({"items":{"type":"integer","exclusiveMinimum":4,
                                        "exclusiveMaximum":5},"type":"array","minItems":1})")),
              HasSubstr("tools answer $.items: Unsatisfiable"));
  EXPECT_THAT(message(testing::Spec(GrammarKind::kLark, "start: \"a\"\n  )")),
              HasSubstr("2(3): expecting"));
  EXPECT_THAT(message(Calls(ToolCallFormat::kGlm47)), HasSubstr("cannot be tool calls"));
  EXPECT_THAT(message(testing::Spec(GrammarKind::kJsonObject, ""), /*text_around=*/true),
              HasSubstr("exclude each other"));
}

TEST_P(ToolCallsTest, RawStrings) {
  const GrammarSpec free = OneValue(R"({"type":"string"})");
  for (const char* value : {"", "a", "\"quoted\"", "12", "null", "{\"a\":1}", "a <b> </b>\n\\ \t",
                            "</arg_valu", "\xE4\xBD\xA0"}) {
    ExpectTaken(free, CallWith(value));
  }
  const GrammarSpec length = OneValue(R"({"type":"string","minLength":2,"maxLength":3})");
  ExpectTaken(length, CallWith("ab"));
  ExpectTaken(length, CallWith("\xE4\xBD\xA0\xE4\xBD\xA0\xE4\xBD\xA0"));
  ExpectRefused(length, CallWith("a"));
  ExpectRefused(length, CallWith("abcd"));
  const GrammarSpec pattern = OneValue(R"({"type":"string","pattern":"^a/|\\d"})");
  ExpectTaken(pattern, CallWith("a/b"));
  ExpectTaken(pattern, CallWith("xa/1"));
  ExpectRefused(pattern, CallWith("xa/b"));
  const GrammarSpec date = OneValue(R"({"type":"string","format":"date"})");
  ExpectTaken(date, CallWith("2024-02-29"));
  ExpectRefused(date, CallWith("2024-02-30"));
  const GrammarSpec choice = OneValue(R"({"enum":["a b","</x>","1"]})");
  ExpectTaken(choice, CallWith("a b"));
  ExpectTaken(choice, CallWith("</x>"));
  ExpectRefused(choice, CallWith("2"));
  // The empty text is a value where the schema says so, and nowhere else.
  ExpectTaken(OneValue(R"({"enum":["","a"]})"), CallWith(""));
  ExpectTaken(OneValue(R"({"type":"string","pattern":"^a*$"})"), CallWith(""));
  ExpectTaken(OneValue(R"({"type":"string","maxLength":2})"), CallWith(""));
  for (const char* filled :
       {R"({"enum":["sea","hills"]})", R"({"const":"a"})", R"({"type":"string","minLength":1})",
        R"({"type":"string","pattern":"a"})", R"({"type":"string","format":"date"})",
        R"({"anyOf":[{"const":"a"},{"type":"string","format":"uuid"}]})",
        R"({"allOf":[{"type":"string"},{"type":"string","minLength":1}]})"}) {
    SCOPED_TRACE(filled);
    ExpectRefused(OneValue(filled), CallWith(""));
  }
  const GrammarSpec untyped = OneValue(R"({"description":"anything"})");
  ExpectTaken(untyped, CallWith("anything, 3"));
}

TEST_P(ToolCallsTest, JsonValues) {
  ExpectTaken(OneValue(R"({"type":"boolean"})"), CallWith("true"));
  ExpectRefused(OneValue(R"({"type":"boolean"})"), CallWith("True"));
  const GrammarSpec list = OneValue(R"({"type":"array","items":{"type":"string"},"minItems":1})");
  ExpectTaken(list, CallWith(R"(["a","b"])"));
  ExpectRefused(list, CallWith(R"(["a", "b"])"));
  ExpectRefused(list, CallWith("[]"));
  ExpectRefused(list, CallWith("a"));
  const GrammarSpec object =
      OneValue(R"({"type":"object","additionalProperties":{"type":"integer"}})");
  ExpectTaken(object, CallWith(R"({"x":1})"));
  ExpectRefused(object, CallWith(R"({"x":"1"})"));
}

// A reader takes 3 for an integer wherever one is declared, so no string may look like it.
TEST_P(ToolCallsTest, Unions) {
  const GrammarSpec number = OneValue(R"({"type":["string","integer","null"],"maximum":5})");
  ExpectTaken(number, CallWith("3"));
  ExpectTaken(number, CallWith("null"));
  ExpectTaken(number, CallWith("three"));
  ExpectRefused(number, CallWith("6"));
  ExpectRefused(number, CallWith("3.5"));
  ExpectRefused(number, CallWith("\n6"));
  const GrammarSpec optional = OneValue(
      R"({"anyOf":[{"type":"string","pattern":"^[a-z]+$"},{"type":"null"}],"default":null})");
  ExpectTaken(optional, CallWith("abc"));
  ExpectTaken(optional, CallWith("null"));
  ExpectRefused(optional, CallWith("ABC"));
  const GrammarSpec object = OneValue(
      R"({"anyOf":[{"type":"string"},{"type":"object","properties":{"a":{"type":"integer"}},
          "required":["a"],"additionalProperties":false}]})");
  ExpectTaken(object, CallWith("text {"));
  ExpectTaken(object, CallWith(R"({"a":1})"));
  ExpectRefused(object, CallWith(R"({"b":1})"));
}

TEST_P(ToolCallsTest, FurtherKeys) {
  GrammarSpec spec = Calls(ToolCallFormat::kGlm47);
  spec.tool_calls.tools = {{"f", R"({"type":"object","properties":{"v":{"type":"integer"}},
               "additionalProperties":{"type":"integer"}})",
                            true},
                           {"free", "", false}};
  const auto argument = [](const std::string& key, const std::string& value) {
    return "<arg_key>" + key + "</arg_key><arg_value>" + value + "</arg_value>";
  };
  ExpectTaken(spec, "<tool_call>f" + argument("v", "1") + argument("w", "2") + "</tool_call>");
  ExpectTaken(spec, "<tool_call>f" + argument("vw", "2") + "</tool_call>");
  ExpectRefused(spec, "<tool_call>f" + argument("w", "x") + "</tool_call>");
  ExpectRefused(spec, "<tool_call>f" + argument("v", "1") + argument("v", "2") + "</tool_call>");
  ExpectTaken(spec,
              "<tool_call>free" + argument("any", "thing\n{") + argument("b", "") + "</tool_call>");
  ExpectTaken(spec, "<tool_call>free</tool_call>");
}

TEST_P(ToolCallsTest, NamesAreLiteral) {
  GrammarSpec spec = Calls(ToolCallFormat::kGlm47);
  spec.tool_calls.tools = {
      {"a\"b\\/.x", R"({"properties":{"k \"1\"\\":{"type":"integer"}},"required":["k \"1\"\\"]})",
       true},
      {"a", "{}", true}};
  ExpectTaken(
      spec, "<tool_call>a\"b\\/.x<arg_key>k \"1\"\\</arg_key><arg_value>1</arg_value></tool_call>");
  ExpectTaken(spec, "<tool_call>a</tool_call>");
  ExpectRefused(spec, "<tool_call>a\"b\\/-x<arg_key>");
}

TEST(ToolCallErrorsTest, NameThePlace) {
  const GrammarHarness harness;
  const auto message = [&](const std::string& schema) {
    GrammarSpec spec = Calls(ToolCallFormat::kGlm45);
    spec.tool_calls.tools = {{"f", schema, true}};
    const auto compiled = harness.compiler().Compile(spec);
    EXPECT_EQ(compiled.status().code(), absl::StatusCode::kInvalidArgument) << schema;
    return std::string(compiled.status().message());
  };
  EXPECT_THAT(message(R"({"anyOf":[{"type":"object"}]})"), HasSubstr("tool \"f\": $.anyOf"));
  EXPECT_THAT(message(R"({"type":"string"})"), HasSubstr("tool \"f\": $.type"));
  EXPECT_THAT(message(R"([])"), HasSubstr("tool \"f\": $: a schema is an object"));
  EXPECT_THAT(message(R"({"properties":{"a":{"type":"strin"}}})"),
              HasSubstr("tool \"f\": $.properties.a.type: \"strin\" is no type"));
  EXPECT_THAT(message(R"({"properties":{"a":{"not":{}}}})"), HasSubstr("$.properties.a.not"));
  EXPECT_THAT(message(R"({"properties":{"a":false},"required":["a"]})"), HasSubstr("no value"));
  EXPECT_THAT(message(R"({"type":"object","properties":{"a":{"$ref":"#"}}})"),
              HasSubstr("must point into $defs"));
  EXPECT_THAT(message("{"), HasSubstr("tool \"f\": not valid JSON"));
  EXPECT_THAT(message(R"({"properties":{"a":{"type":"integer","exclusiveMinimum":4,
                          "exclusiveMaximum":5}}})"),
              HasSubstr("tools tool \"f\": Unsatisfiable"));
  GrammarSpec spec = Calls(ToolCallFormat::kGlm45, 2, 1);
  EXPECT_THAT(harness.Run(spec, ""), HasSubstr("between 2 and 1 calls"));
  spec = Calls(ToolCallFormat::kGlm45);
  spec.tool_calls.tools.clear();
  EXPECT_THAT(harness.Run(spec, ""), HasSubstr("no tools"));
}

}  // namespace
}  // namespace sheaf

#include "router/text/output/output_parser.h"

#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "tests/text/output/parsed_output.h"
#include "tests/text/output/weather_tools.h"

namespace sheaf {
namespace {

using testing::Options;
using testing::Parse;
using testing::ParseThoughts;
using testing::PushScript;
using testing::Show;
using testing::TestTags;
using testing::ToScript;

constexpr const char* kBerlin = R"(A({"city":"Berlin","days":3}))";

TEST(OutputParserTest, Glm45WithItsNewlines) {
  EXPECT_EQ(Parse("\n<think>Weather.\nTwo lines.</think>\nLet me look.\n<tool_call>get_weather\n"
                  "<arg_key>city</arg_key>\n<arg_value>Berlin</arg_value>\n"
                  "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n"
                  "<tool_call>now\n</tool_call>"),
            std::string("R(Weather.\nTwo lines.) C(Let me look.) [0 get_weather] ") + kBerlin +
                " [/0] [1 now] A({}) [/1] |2");
}

TEST(OutputParserTest, Glm47WithoutNewlines) {
  EXPECT_EQ(ParseThoughts("Weather.\nTwo lines.</think>Let me look.<tool_call>get_weather"
                          "<arg_key>city</arg_key><arg_value>Berlin</arg_value>"
                          "<arg_key>days</arg_key><arg_value>3</arg_value></tool_call>"
                          "<tool_call>now</tool_call>"),
            std::string("R(Weather.\nTwo lines.) C(Let me look.) [0 get_weather] ") + kBerlin +
                " [/0] [1 now] A({}) [/1] |2");
}

TEST(OutputParserTest, ThoughtsAndContent) {
  EXPECT_EQ(Parse("<think>R</think>C"), "R(R) C(C)");
  EXPECT_EQ(Parse("\n<think></think>\nC"), "C(C)");
  EXPECT_EQ(Parse("C"), "C(C)");
  EXPECT_EQ(Parse("a</think>b"), "C(ab)");  // ends nothing
  EXPECT_EQ(Parse("<think>R"), "R(R)");
  EXPECT_EQ(Parse("a<think>R</think>b<think>S</think>c"), "C(a) R(R) C(b) R(S) C(c)");
  EXPECT_EQ(ParseThoughts("R</think>C"), "R(R) C(C)");
  EXPECT_EQ(ParseThoughts("<think>R</think>C"), "R(R) C(C)");
  EXPECT_EQ(ParseThoughts("R"), "R(R)");
  EXPECT_EQ(ParseThoughts(""), "");
}

TEST(OutputParserTest, AnAnswerThatStoppedWithinItsThoughtsIsKnown) {
  OutputParser parser(Options(OutputStart::kThoughts));
  std::vector<OutputEvent> events;
  EXPECT_TRUE(parser.in_thoughts());
  parser.Push(std::nullopt, "hm", events);
  parser.Finish(OutputStop::kLength, events);
  EXPECT_TRUE(parser.in_thoughts());
  EXPECT_EQ(Show(events), "R(hm)");
}

TEST(OutputParserTest, SpaceBesideTagsIsDroppedOtherSpaceIsKept) {
  EXPECT_EQ(Parse("\n <think>\n a  b \n</think> \n\n c \n d \n"), "R(a  b) C(c \n d \n)");
  EXPECT_EQ(Parse(" \n "), "");
  EXPECT_EQ(Parse("a \n"), "C(a \n)");
  EXPECT_EQ(Parse("a \n<tool_call>now</tool_call> \n b"), "C(a) [0 now] A({}) [/0] C(b) |1");
  EXPECT_EQ(Parse("<tool_call>now</tool_call>\n\n<tool_call>now</tool_call>\n"),
            "[0 now] A({}) [/0] [1 now] A({}) [/1] |2");
  EXPECT_EQ(ParseThoughts("\n\nR \n"), "R(R \n)");
}

TEST(OutputParserTest, AContinuedTextKeepsItsFirstSpace) {
  OutputParserOptions options = Options();
  options.keep_leading_space = true;
  EXPECT_EQ(Parse(" and so", options), "C( and so)");
  EXPECT_EQ(Parse("\n", options), "C(\n)");
  EXPECT_EQ(Parse("\n<think>R</think> c", options), "R(R) C(c)");
}

TEST(OutputParserTest, TextBeforeBetweenAndAfterCallsIsContent) {
  EXPECT_EQ(Parse("one<tool_call>now</tool_call>two<tool_call>now</tool_call>three"),
            "C(one) [0 now] A({}) [/0] C(two) [1 now] A({}) [/1] C(three) |2");
}

TEST(OutputParserTest, WithoutReasoningThinkTagsAreText) {
  OutputParserOptions options = Options(OutputStart::kThoughts);
  options.format.reasoning = TagFormat::kNone;
  EXPECT_EQ(Parse("<think>R</think> C <tool_call>now</tool_call>", options),
            "C(<think>R</think> C) [0 now] A({}) [/0] |1");
}

TEST(OutputParserTest, WithoutToolsTheirTagsAreText) {
  OutputParserOptions options = Options(OutputStart::kThoughts);
  options.tools = nullptr;
  EXPECT_EQ(Parse("a <tool_call>now</tool_call></think> b <tool_call>now</tool_call>", options),
            "R(a <tool_call>now</tool_call>) C(b <tool_call>now</tool_call>)");
  options = Options();
  options.format.tools = TagFormat::kNone;
  EXPECT_EQ(Parse("b <tool_call>now</tool_call>", options), "C(b <tool_call>now</tool_call>)");
}

TEST(OutputParserTest, WithNeitherFormatTheTextIsAsItIs) {
  OutputParserOptions options = Options();
  options.format.reasoning = options.format.tools = TagFormat::kNone;
  EXPECT_EQ(Parse("\n<think> a </think> \n", options), "C(\n<think> a </think> \n)");
}

TEST(OutputParserTest, TextThatLooksLikeATagIsText) {
  EXPECT_EQ(Parse("\\<think>a\\<tool_call>now\\</tool_call>"),
            "C(<think>a<tool_call>now</tool_call>)");
  EXPECT_EQ(Parse("<tool_call>get_weather<arg_key>city</arg_key>"
                  "<arg_value>\\</arg_value>\\</tool_call></arg_value></tool_call>"),
            R"([0 get_weather] A({"city":"</arg_value></tool_call>"}) [/0] |1)");
}

TEST(OutputParserTest, TagsWithoutATokenAreFoundInTheText) {
  OutputParserOptions options = Options();
  const std::string script =
      "\n<think>1 < 2 </think>a <b> </thin<tool_call>get_weather\n<arg_key>city</arg_key>\n"
      "<arg_value>x<y</arg_valu></arg_value>\n</tool_call>\n<tool_call>now</tool_call><tool_cal";
  const std::string want =
      R"(R(1 < 2) C(a <b> </thin) [0 get_weather] A({"city":"x<y</arg_valu>"}) )"
      "[/0] [1 now] A({}) [/1] C(<tool_cal) |2";
  EXPECT_EQ(Parse(script, options), want);
  options.format.tags.key_begin = options.format.tags.key_end = std::nullopt;
  options.format.tags.value_begin = options.format.tags.value_end = std::nullopt;
  EXPECT_EQ(Parse(script, options), want);
  options.format.tags = {};
  EXPECT_EQ(Parse(script, options), want);
}

TEST(OutputParserTest, ATagTokenThatIsNotShownCounts) {
  OutputParser parser(Options());
  std::vector<OutputEvent> events;
  parser.Push(TestTags().think_begin, "", events);
  parser.Push(std::nullopt, "R", events);
  parser.Push(TestTags().think_end, "", events);
  parser.Push(5, "C", events);
  EXPECT_EQ(Show(events), "R(R) C(C)");
}

TEST(OutputParserTest, TypesOfArguments) {
  EXPECT_EQ(Parse("<tool_call>get_weather<arg_key>days</arg_key><arg_value> 3 </arg_value>"
                  "<arg_key>unit</arg_key><arg_value>None</arg_value>"
                  "<arg_key>tags</arg_key><arg_value>[\"a\", \"b\"]</arg_value>"
                  "<arg_key>where</arg_key><arg_value>{\"x\": 1.50}</arg_value>"
                  "<arg_key>not declared</arg_key><arg_value>5</arg_value></tool_call>"),
            R"([0 get_weather] A({"days":3,"unit":null,"tags":["a", "b"],"where":{"x": 1.50},)"
            R"("not declared":"5"}) [/0] |1)");
}

TEST(OutputParserTest, KeysAreStrippedAndEscapedValuesAreNotStripped) {
  EXPECT_EQ(Parse("<tool_call>get<arg_key> a\"b\n</arg_key><arg_value>\n x \n</arg_value>"
                  "</tool_call>"),
            R"([0 get] A({"a\"b":"\n x \n"}) [/0] |1)");
}

TEST(OutputParserTest, AKeyThatComesTwiceIsWrittenTwice) {
  EXPECT_EQ(Parse("<tool_call>get<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>a</arg_key>"
                  "<arg_value>2</arg_value></tool_call>"),
            R"([0 get] A({"a":"1","a":"2"}) [/0] |1)");
}

TEST(OutputParserTest, ForgottenTags) {
  const std::string want = R"([0 get] A({"a":"v","b":"w"}) [/0] |1)";
  // <arg_key> of the first argument: the name ends with its line, or where a declared name ends.
  EXPECT_EQ(Parse("<tool_call>get\na</arg_key><arg_value>v</arg_value><arg_key>b</arg_key>"
                  "<arg_value>w</arg_value></tool_call>"),
            want);
  EXPECT_EQ(Parse("<tool_call>geta</arg_key>\n<arg_value>v</arg_value>b</arg_key>\n"
                  "<arg_value>w</arg_value></tool_call>"),
            want);
  EXPECT_EQ(Parse("<tool_call>get_weathercity</arg_key><arg_value>v</arg_value></tool_call>"),
            R"([0 get_weather] A({"city":"v"}) [/0] |1)");
  // </arg_key>
  EXPECT_EQ(Parse("<tool_call>get<arg_key>a<arg_value>v</arg_value><arg_key>b\n<arg_value>w"
                  "</arg_value></tool_call>"),
            want);
  // both
  EXPECT_EQ(Parse("<tool_call>get\na\n<arg_value>v</arg_value>\nb\n<arg_value>w</arg_value>"
                  "</tool_call>"),
            want);
  // </arg_value> of the last argument
  EXPECT_EQ(Parse("<tool_call>get<arg_key>a</arg_key><arg_value>v</arg_value><arg_key>b</arg_key>"
                  "<arg_value>w</tool_call>"),
            want);
  // </tool_call> before the next call
  EXPECT_EQ(Parse("<tool_call>get<arg_key>a</arg_key><arg_value>v</arg_value>\n<tool_call>now"
                  "</tool_call>"),
            R"([0 get] A({"a":"v"}) [/0] [1 now] A({}) [/1] |2)");
  // a value
  EXPECT_EQ(Parse("<tool_call>get<arg_key>a</arg_key><arg_key>b</arg_key><arg_value>w</arg_value>"
                  "<arg_key>c</arg_key></tool_call>"),
            R"([0 get] A({"b":"w"}) [/0] |1)");
}

TEST(OutputParserTest, TagsWithinAValueAreItsText) {
  EXPECT_EQ(
      Parse("<tool_call>get<arg_key>a</arg_key><arg_value><think><arg_key>k</arg_key>"
            "<arg_value><tool_call></think></arg_value></tool_call>"),
      R"([0 get] A({"a":"<think><arg_key>k</arg_key><arg_value><tool_call></think>"}) [/0] |1)");
}

TEST(OutputParserTest, StrayTagsOfCallsAreContent) {
  EXPECT_EQ(Parse("a </tool_call> b <arg_key>c"), "C(a </tool_call> b <arg_key>c)");
  EXPECT_EQ(ParseThoughts("a </arg_value> b"), "R(a </arg_value> b)");
}

TEST(OutputParserTest, ACallToAToolThatIsNotDeclaredIsContent) {
  EXPECT_EQ(
      Parse("a \n<tool_call>rm\n<arg_key>x</arg_key>\n<arg_value>/</arg_value>\n</tool_call> b"),
      "C(a \n<tool_call>rm\n<arg_key>x</arg_key>\n<arg_value>/</arg_value>\n</tool_call> b) "
      "|undeclared 1");
  EXPECT_EQ(Parse("<tool_call>get_weathers</tool_call><tool_call>get_wea<arg_key>"),
            "C(<tool_call>get_weathers</tool_call><tool_call>get_wea<arg_key>) |undeclared 2");
  EXPECT_EQ(Parse("<tool_call></tool_call>"), "C(<tool_call></tool_call>) |undeclared 1");
  // What follows is read as ever; a call that begins before it ends too, but not within a value.
  EXPECT_EQ(Parse("<tool_call>rm</tool_call><tool_call>now</tool_call>"),
            "C(<tool_call>rm</tool_call>) [0 now] A({}) [/0] |1 |undeclared 1");
  EXPECT_EQ(Parse("<tool_call>rm<arg_key>a</arg_key><arg_value><tool_call></arg_value>\n"
                  "<tool_call>now</tool_call>"),
            "C(<tool_call>rm<arg_key>a</arg_key><arg_value><tool_call></arg_value>) "
            "[0 now] A({}) [/0] |1 |undeclared 1");
}

TEST(OutputParserTest, TheTextOfAnUndeclaredCallIsNotHeldBack) {
  OutputParser parser(Options());
  std::vector<OutputEvent> events;
  parser.Push(TestTags().call_begin, "<tool_call>", events);
  parser.Push(std::nullopt, "get_we", events);
  EXPECT_EQ(Show(events), "");
  parser.Push(std::nullopt, "t", events);
  EXPECT_EQ(Show(events), "");  // "get", and perhaps a key
  OutputParser other(Options());
  other.Push(TestTags().call_begin, "<tool_call>", events);
  other.Push(std::nullopt, "no", events);
  EXPECT_EQ(Show(events), "");
  other.Push(std::nullopt, "pe", events);
  EXPECT_EQ(Show(events), "C(<tool_call>nope)");
  other.Push(std::nullopt, "-more", events);
  EXPECT_EQ(Show(events), "C(<tool_call>nope-more)");
}

TEST(OutputParserTest, StringsStreamTokenByToken) {
  OutputParser parser(Options());
  std::vector<OutputEvent> events;
  for (const testing::ScriptPiece& piece :
       ToScript("<tool_call>get<arg_key>a</arg_key><arg_value>")) {
    PushScript(parser, TestTags(), {piece}, 0, events);
  }
  EXPECT_EQ(Show(events), R"([0 get] A({"a":"))");
  events.clear();
  parser.Push(std::nullopt, "x\"", events);
  EXPECT_EQ(Show(events), R"(A(x\"))");
  events.clear();
  parser.Push(std::nullopt, "\n", events);
  EXPECT_EQ(Show(events), R"(A(\n))");
  events.clear();
  parser.Push(TestTags().value_end, "</arg_value>", events);
  EXPECT_EQ(Show(events), R"(A("))");
  EXPECT_TRUE(parser.call_open());
  events.clear();
  parser.Push(TestTags().call_end, "</tool_call>", events);
  EXPECT_EQ(Show(events), "A(}) [/0]");
  EXPECT_FALSE(parser.call_open());
}

TEST(OutputParserTest, ACallIsAnnouncedWithItsNameAndId) {
  OutputParserOptions options = Options();
  options.call_id = [](int index) { return absl::StrFormat("call_%d", index + 7); };
  OutputParser parser(options);
  std::vector<OutputEvent> events;
  PushScript(parser, TestTags(), ToScript("<tool_call>now</tool_call><tool_call>get</tool_call>"),
             0, events);
  EXPECT_EQ(events, (std::vector<OutputEvent>{CallBegin{0, "call_7", "now"}, CallArguments{0, "{}"},
                                              CallEnd{0}, CallBegin{1, "call_8", "get"},
                                              CallArguments{1, "{}"}, CallEnd{1}}));
}

TEST(OutputParserTest, ACutOffCallIsNotComplete) {
  const std::string head = "<tool_call>get<arg_key>a</arg_key><arg_value>v";
  for (const OutputStop stop :
       {OutputStop::kLength, OutputStop::kStopString, OutputStop::kStopToken}) {
    EXPECT_EQ(Parse(head, Options(), stop), R"([0 get] A({"a":"v) |open)");
    EXPECT_EQ(Parse("<tool_call>get<arg_key>a", Options(), stop), "[0 get] |open");
    EXPECT_EQ(Parse("<tool_call>get<arg_key>a</arg_key>", Options(), stop), "[0 get] |open");
    EXPECT_EQ(Parse("<tool_call>get_weather<arg_key>days</arg_key><arg_value>12", Options(), stop),
              R"([0 get_weather] A({"days":) |open)");
    // Without a whole name there is no call.
    EXPECT_EQ(Parse("a <tool_call>get", Options(), stop), "C(a <tool_call>get)");
    EXPECT_EQ(Parse("a <tool_call>", Options(), stop), "C(a <tool_call>)");
    EXPECT_EQ(ParseThoughts("a <tool_call>get_w", stop), "R(a) C(<tool_call>get_w)");
  }
  const std::string between = head + "</arg_value>\n";
  EXPECT_EQ(Parse(between, Options(), OutputStop::kLength), R"([0 get] A({"a":"v") |open)");
  EXPECT_EQ(Parse(between, Options(), OutputStop::kStopString), R"([0 get] A({"a":"v") |open)");
  EXPECT_EQ(Parse(between, Options(), OutputStop::kStopToken), R"([0 get] A({"a":"v"}) [/0] |1)");
  EXPECT_EQ(Parse(between + "b", Options(), OutputStop::kStopToken),
            R"([0 get] A({"a":"v") |open)");  // the beginning of a key, perhaps
}

TEST(OutputParserTest, LargeOutputsCostLinearTimeAndLittleStack) {
  // Value by byte, so that anything quadratic would take hours.
  OutputParser parser(Options());
  std::vector<OutputEvent> events;
  PushScript(parser, TestTags(), ToScript("<tool_call>get<arg_key>a</arg_key><arg_value>"), 0,
             events);
  const std::string value(8 << 20, '"');
  size_t json_bytes = 0;
  for (const char c : value) {
    events.clear();
    parser.Push(std::nullopt, std::string_view(&c, 1), events);
    ASSERT_EQ(events.size(), 1u);
    json_bytes += std::get<CallArguments>(events[0]).json.size();
  }
  EXPECT_EQ(json_bytes, 2 * value.size());
  events.clear();
  PushScript(parser, TestTags(), ToScript("</arg_value></tool_call>"), 0, events);
  EXPECT_EQ(Show(events), R"(A("}) [/0])");
}

TEST(OutputParserTest, LongRunsOfSpaceCostLinearTime) {
  const std::string space(1 << 20, ' ');
  // In content, in a name, in a value that may be null, and in a key.
  for (const char* head :
       {"x", "<tool_call>", "<tool_call>get_weather<arg_key>unit</arg_key><arg_value>",
        "<tool_call>get<arg_key>"}) {
    OutputParser parser(Options());
    std::vector<OutputEvent> events;
    PushScript(parser, TestTags(), ToScript(head), 0, events);
    events.clear();
    for (const char c : space) parser.Push(std::nullopt, std::string_view(&c, 1), events);
    EXPECT_TRUE(events.empty());
    parser.Push(std::nullopt, "y", events);
    parser.Finish(OutputStop::kLength, events);
    EXPECT_LE(events.size(), 1u);
  }
}

}  // namespace
}  // namespace sheaf

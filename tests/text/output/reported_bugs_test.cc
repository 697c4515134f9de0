// Bugs that users reported for these two formats elsewhere, each by what went wrong.

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/text/output/parsed_output.h"
#include "tests/text/output/weather_tools.h"

namespace sheaf {
namespace {

using testing::JoinEvents;
using testing::Options;
using testing::Parse;
using testing::PushScript;
using testing::TestTags;
using testing::ToScript;

struct ReportedBug {
  const char* name;
  const char* script;
  OutputStart start;
  const char* want;
};

class ReportedBugTest : public ::testing::TestWithParam<ReportedBug> {};

TEST_P(ReportedBugTest, DoesNotHappenHere) {
  EXPECT_EQ(Parse(GetParam().script, Options(GetParam().start)), GetParam().want);
}

INSTANTIATE_TEST_SUITE_P(
    OutputParser, ReportedBugTest,
    ::testing::Values(
        ReportedBug{"CallWithinThoughtsIsLost", "Let me see.\n<tool_call>now</tool_call>",
                    OutputStart::kThoughts, "R(Let me see.) [0 now] A({}) [/0] |1"},
        ReportedBug{"NameIsTruncated",  // one declared name begins another
                    "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>x</arg_value>\n"
                    "</tool_call>",
                    OutputStart::kContent, R"([0 get_weather] A({"city":"x"}) [/0] |1)"},
        ReportedBug{"CallWithoutArgumentsIsDropped45", "\n<tool_call>now\n</tool_call>",
                    OutputStart::kContent, "[0 now] A({}) [/0] |1"},
        ReportedBug{"CallWithoutArgumentsIsDropped47", "</think><tool_call>now</tool_call>",
                    OutputStart::kThoughts, "[0 now] A({}) [/0] |1"},
        ReportedBug{"EmptyArgumentsAreAnError",
                    "<tool_call>get<arg_key>a</arg_key><arg_value></arg_value></tool_call>",
                    OutputStart::kContent, R"([0 get] A({"a":""}) [/0] |1)"},
        ReportedBug{"OptionalStringIsTakenForJson",
                    "<tool_call>get_weather<arg_key>unit</arg_key><arg_value>5</arg_value>"
                    "<arg_key>unit</arg_key><arg_value>[\"a\"]</arg_value></tool_call>",
                    OutputStart::kContent,
                    R"([0 get_weather] A({"unit":"5","unit":"[\"a\"]"}) [/0] |1)"},
        ReportedBug{"ArrayIsCorrupted",
                    "<tool_call>get_weather<arg_key>tags</arg_key><arg_value>[\"it's\", \"a,b\", "
                    "\"]\"]</arg_value></tool_call>",
                    OutputStart::kContent,
                    R"([0 get_weather] A({"tags":["it's", "a,b", "]"]}) [/0] |1)"},
        ReportedBug{"TextAfterThoughtsWithACallGoesToReasoning",
                    "R</think>Let me check.<tool_call>now</tool_call>", OutputStart::kThoughts,
                    "R(R) C(Let me check.) [0 now] A({}) [/0] |1"},
        ReportedBug{"ThoughtsOfAToolTurnAreShownAsContent",
                    "\n<think>I need a tool.</think>\n\n<tool_call>now\n</tool_call>",
                    OutputStart::kContent, "R(I need a tool.) [0 now] A({}) [/0] |1"},
        ReportedBug{
            "ForgottenKeyTagBreaksTheCall",
            "<tool_call>get_weather\ncity</arg_key>\n<arg_value>x</arg_value>\n</tool_call>",
            OutputStart::kContent, R"([0 get_weather] A({"city":"x"}) [/0] |1)"},
        ReportedBug{"TemplateWithNewlinesReadByTheOtherParser",
                    "\n<tool_call>get_weather\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n"
                    "</tool_call>\n",
                    OutputStart::kContent, R"([0 get_weather] A({"days":2}) [/0] |1)"},
        ReportedBug{"TemplateWithoutNewlinesReadByTheOtherParser",
                    "<tool_call>get_weather<arg_key>days</arg_key><arg_value>2</arg_value>"
                    "</tool_call>",
                    OutputStart::kContent, R"([0 get_weather] A({"days":2}) [/0] |1)"},
        ReportedBug{"AngleBracketsInAValueEndIt",
                    "<tool_call>get<arg_key>code</arg_key><arg_value>if (a < b && c > d) { "
                    "return \\</div>; }</arg_value></tool_call>",
                    OutputStart::kContent,
                    R"([0 get] A({"code":"if (a < b && c > d) { return </div>; }"}) [/0] |1)"},
        ReportedBug{"TextAfterTheLastCallIsLost", "<tool_call>now</tool_call>\nDone.",
                    OutputStart::kContent, "[0 now] A({}) [/0] C(Done.) |1"}),
    [](const auto& bug) { return std::string(bug.param.name); });

// Several tokens a step: their text may come in one piece, with the tags in their places.
TEST(OutputParserTest, StepsOfSeveralTokensGiveWholeArguments) {
  const auto script = ToScript(
      "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Sao \"Paulo\"</arg_value>"
      "<arg_key>where</arg_key><arg_value>{\"a\": [1, {\"b\": null}]}</arg_value></tool_call>");
  OutputParser parser(Options());
  std::vector<OutputEvent> events;
  PushScript(parser, TestTags(), script, 0, events);
  events = JoinEvents(events);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(
      nlohmann::json::parse(std::get<CallArguments>(events[1]).json),
      nlohmann::json::parse(R"({"city": "Sao \"Paulo\"", "where": {"a": [1, {"b": null}]}})"));
}

}  // namespace
}  // namespace sheaf

// Structural tags of both published forms.

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

struct Case {
  const char* name;
  const char* text;
  std::vector<std::string> taken;
  std::vector<std::string> refused;
};

const Case kCases[] = {
    {"structures",
     R"({"type":"structural_tag","triggers":["<function="],
         "structures":[{"begin":"<function=a>","schema":{"type":"integer"},"end":"</function>"},
                       {"begin":"<function=bc>","schema":{"enum":["x"]},"end":"</function>"}]})",
     {"", "text <func", "<function=a>12</function>",
      "see <function=bc>\"x\"</function> and <function=a>1</function>."},
     {"<function=d", "<function=a>x", "<function=a>1", "<function=a>1</function><function="}},
    {"tokens",
     R"({"type":"structural_tag","triggers":["<tool_call>"],
         "structures":[{"begin":"<tool_call>f","schema":{"type":"integer"},"end":"</tool_call>"}]})",
     {"text", "text<tool_call>f12</tool_call>more"},
     {"<tool_call>g", "<tool_call>fx", "<tool_call>f1"}},
    {"sequence",
     R"({"type":"structural_tag","format":{"type":"sequence","elements":[
         {"type":"const_string","value":"a"},{"type":"regex","pattern":"[0-9]+"},
         {"type":"json_schema","json_schema":{"type":"boolean"}},{"type":"any_text"}]}})",
     {"a1true", "a12false and so on"},
     {"a", "atrue", "a1"}},
    {"or",
     R"({"type":"structural_tag","format":{"type":"or","elements":[
         {"type":"const_string","value":"a"},{"type":"const_string","value":"b"}]}})",
     {"a", "b"},
     {"ab", ""}},
    {"tag",
     R"({"type":"structural_tag","format":{"type":"sequence","elements":[
         {"type":"tag","begin":"<a>","content":{"type":"any_text"},"end":"</a>"},
         {"type":"tag","begin":"<b>","content":{"type":"json_schema","json_schema":{"type":"null"}},
          "end":"</b>"}]}})",
     {"<a>x < y</a><b>null</b>", "<a></a><b>null</b>"},
     {"<a>x<b>null</b>", "<a></a><b>1</b>"}},
    {"triggered",
     R"({"type":"structural_tag","format":{"type":"triggered_tags","triggers":["<f"],"at_least_one":true,
         "stop_after_first":true,"tags":[{"begin":"<f1>","content":{"type":"any_text"},"end":"</f>"}]}})",
     {"text<f1>abc</f>"},
     {"text", "<f1>a</f><f1>b</f>", "<f2>"}},
    {"separated",
     R"({"type":"structural_tag","format":{"type":"tags_with_separator","separator":",","tags":[
         {"begin":"<a>","content":{"type":"regex","pattern":"x+"},"end":"</a>"}]}})",
     {"", "<a>x</a>", "<a>x</a>,<a>xx</a>"},
     {"<a>x</a>,", "<a>x</a><a>x</a>"}},
};

TEST(StructuralTagTest, TakesAndRefuses) {
  for (const bool with_tags : {true, false}) {
    const GrammarHarness harness(with_tags);
    for (const Case& c : kCases) {
      const GrammarSpec spec = Spec(GrammarKind::kStructuralTag, c.text);
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
}

TEST(StructuralTagTest, ErrorsNameThePlace) {
  const GrammarHarness harness;
  const auto run = [&](const char* text) {
    return harness.Run(Spec(GrammarKind::kStructuralTag, text), "");
  };
  EXPECT_THAT(run("{}"), HasSubstr("neither \"format\" nor \"structures\""));
  EXPECT_THAT(run(R"({"format":{"type":"grammar","grammar":"root ::= a"}})"),
              HasSubstr("$.format.type: \"grammar\" is not supported"));
  EXPECT_THAT(run(R"({"format":{"type":"sequence","elements":[{"type":"any_text"},
                      {"type":"const_string","value":"a"}]}})"),
              HasSubstr("$.format.elements[0]: any_text"));
  EXPECT_THAT(run(R"({"triggers":["<g"],"structures":[{"begin":"<f","schema":{},"end":""}]})"),
              HasSubstr("$.triggers[0]: no tag begins with it"));
  EXPECT_THAT(
      run(R"({"triggers":["<f"],"structures":[{"begin":"<f","schema":{"not":{}},"end":""}]})"),
      HasSubstr("$.structures[0].schema: $.not"));
}

}  // namespace
}  // namespace sheaf

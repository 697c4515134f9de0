#pragma once
// The tools that tests of the output parser declare, and a whole script's events as one line.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "router/text/output/output_parser.h"
#include "tests/text/output/parsed_output.h"

namespace sheaf::testing {

inline std::shared_ptr<const DeclaredTools> WeatherTools() {
  static const auto tools = std::make_shared<const DeclaredTools>(*DeclaredTools::Create(
      std::vector<ToolDeclaration>{{"get_weather", R"({"type": "object", "properties": {
              "city": {"type": "string"}, "days": {"type": "integer"},
              "unit": {"anyOf": [{"type": "string"}, {"type": "null"}]},
              "tags": {"type": "array"}, "where": {"$ref": "#/$defs/Where"}},
              "$defs": {"Where": {"type": "object"}}})"},
                                   {"get", ""},
                                   {"now", R"({"type": "object", "properties": {}})"}}));
  return tools;
}

inline OutputParserOptions Options(OutputStart start = OutputStart::kContent) {
  OutputParserOptions options;
  options.format = {TagFormat::kGlm45, TagFormat::kGlm45, TestTags()};
  options.tools = WeatherTools();
  options.start = start;
  return options;
}

// The joined events of a script as Show gives them, the same for pieces of every size. After bars,
// where there are such: the number of complete calls, "open", and the number of undeclared ones.
inline std::string Parse(std::string_view script, const OutputParserOptions& options = Options(),
                         OutputStop stop = OutputStop::kStopToken) {
  std::string whole;
  for (size_t piece_bytes = 0; piece_bytes <= 12; ++piece_bytes) {
    OutputParser parser(options);
    std::vector<OutputEvent> events;
    PushScript(parser, options.format.tags, ToScript(script), piece_bytes, events);
    parser.Finish(stop, events);
    std::string shown = Show(JoinEvents(events));
    if (parser.num_calls() > 0) shown += absl::StrFormat(" |%d", parser.num_calls());
    if (parser.call_open()) shown += " |open";
    if (parser.undeclared_calls() > 0) {
      shown += absl::StrFormat(" |undeclared %d", parser.undeclared_calls());
    }
    if (piece_bytes == 0) whole = shown;
    EXPECT_EQ(shown, whole) << "in pieces of " << piece_bytes;
  }
  return whole;
}

inline std::string ParseThoughts(std::string_view script,
                                 OutputStop stop = OutputStop::kStopToken) {
  return Parse(script, Options(OutputStart::kThoughts), stop);
}

}  // namespace sheaf::testing

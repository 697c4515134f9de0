#pragma once
// Plausible and broken outputs of a model, made of numbers that somebody chooses: a random engine
// or a fuzzer's bytes.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/text/output/output_parser.h"
#include "router/text/utf8_stream.h"
#include "tests/text/output/parsed_output.h"

namespace sheaf::testing {

// A number below `bound`.
using Chooser = std::function<uint32_t(uint32_t bound)>;

inline std::shared_ptr<const DeclaredTools> RandomOutputTools(uint32_t which) {
  static const auto none = std::make_shared<const DeclaredTools>();
  static const auto some = std::make_shared<const DeclaredTools>(*DeclaredTools::Create(
      std::vector<ToolDeclaration>{{"get", ""},
                                   {"get_weather", R"({"properties": {
              "s": {"type": "string"}, "o": {"type": ["string", "null"]}, "i": {"type": "integer"},
              "n": {"type": "number"}, "b": {"type": "boolean"}, "d": {"type": "object"},
              "a": {"type": "array"}, "z": {"type": "null"},
              "any": {"anyOf": [{"type": "string"}, {"type": "array"}, {"type": "number"}]}},
              "additionalProperties": {"type": ["integer", "null", "string"]}})"},
                                   {"now", "{}"},
                                   {"two words", R"({"properties": {"s": {"type": "number"}}})"}}));
  return which == 0 ? nullptr : which == 1 ? none : some;
}

inline std::string RandomText(const Chooser& choose) {
  constexpr const char* kTexts[] = {" ",
                                    "\n",
                                    "\n\n",
                                    " \t",
                                    "Hello",
                                    "a b",
                                    "get",
                                    "get_weather",
                                    "get_wea",
                                    "now",
                                    "no",
                                    "rm",
                                    "two words",
                                    "s",
                                    "o",
                                    "i",
                                    "n",
                                    "b",
                                    "d",
                                    "a",
                                    "z",
                                    "any",
                                    "null",
                                    "None",
                                    "nul",
                                    "true",
                                    "False",
                                    "5",
                                    "-1.50",
                                    "1e5",
                                    "007",
                                    "123456789012345678901234567890",
                                    "{\"a\": [1, 2]}",
                                    "[\"x\", {}]",
                                    "[1,",
                                    "{\"k\":",
                                    "\"q\" \\ ",
                                    "\u2028",
                                    "\u0085",
                                    "é",
                                    "😀",
                                    "<",
                                    "</",
                                    "<think",
                                    "<arg_value",
                                    "</arg_key",
                                    "tool_call>",
                                    "<tool_cal<",
                                    "\x01",
                                    "\"\\ud83d\"",
                                    ">",
                                    "ls -la"};
  constexpr uint32_t kNumTexts = std::size(kTexts);
  const uint32_t which = choose(kNumTexts + 2);
  if (which < kNumTexts) return kTexts[which];
  // Any bytes, as a detokenizer shows them.
  Utf8Stream utf8;
  std::string text;
  for (uint32_t n = choose(6); n > 0; --n) {
    const char byte = static_cast<char>(choose(256));
    utf8.Push(std::string_view(&byte, 1), text);
  }
  utf8.Finish(text);
  return text;
}

inline Script RandomScript(const Chooser& choose) {
  constexpr const char* kNames[] = {"get", "get_weather", "now", "two words"};
  constexpr const char* kKeys[] = {"s", "o", "i", "n", "b", "d", "a", "z", "any"};
  Script script;
  const auto add_text = [&] { script.push_back({std::nullopt, RandomText(choose)}); };
  // What is expected here, or now and then anything.
  const auto add_word = [&](const char* const* words, uint32_t num_words) {
    if (choose(4) == 0) {
      add_text();
    } else {
      script.push_back({std::nullopt, words[choose(num_words)]});
    }
  };
  const auto add_newline = [&] {
    if (choose(2) == 0) script.push_back({std::nullopt, "\n"});
  };
  const auto add_tag = [&](OutputTag tag) {
    const uint32_t luck = choose(20);
    if (luck == 0) return;
    if (luck == 1) tag = static_cast<OutputTag>(choose(kNumOutputTags));
    script.push_back({tag, std::string(OutputTagText(tag))});
  };
  const uint32_t num_parts = choose(8);
  for (uint32_t part = 0; part < num_parts; ++part) {
    switch (choose(5)) {
      case 0:
        add_tag(static_cast<OutputTag>(choose(kNumOutputTags)));
        break;
      case 1:
        add_text();
        break;
      case 2:
        add_tag(OutputTag::kThinkBegin);
        add_text();
        add_tag(OutputTag::kThinkEnd);
        break;
      default:
        add_tag(OutputTag::kCallBegin);
        add_word(kNames, std::size(kNames));
        add_newline();
        for (uint32_t n = choose(4); n > 0; --n) {
          add_tag(OutputTag::kKeyBegin);
          add_word(kKeys, std::size(kKeys));
          add_tag(OutputTag::kKeyEnd);
          add_newline();
          add_tag(OutputTag::kValueBegin);
          for (uint32_t texts = choose(3); texts > 0; --texts) add_text();
          add_tag(OutputTag::kValueEnd);
          add_newline();
        }
        add_tag(OutputTag::kCallEnd);
    }
  }
  // Cut off.
  if (!script.empty() && choose(3) == 0) {
    script.resize(choose(static_cast<uint32_t>(script.size())));
  }
  return script;
}

inline OutputParserOptions RandomOptions(const Chooser& choose) {
  OutputParserOptions options;
  options.format.tools = choose(8) == 0 ? TagFormat::kNone : TagFormat::kGlm45;
  options.format.reasoning = choose(4) == 0 ? TagFormat::kNone : TagFormat::kGlm47;
  options.format.tags = TestTags();
  if (choose(4) == 0) {
    OutputTags& tags = options.format.tags;
    for (auto* tag : {&tags.think_begin, &tags.think_end, &tags.call_begin, &tags.call_end,
                      &tags.key_begin, &tags.key_end, &tags.value_begin, &tags.value_end}) {
      if (choose(2) == 0) *tag = std::nullopt;
    }
  }
  const uint32_t tools = choose(12);
  options.tools = RandomOutputTools(tools);
  options.start = choose(2) == 0 ? OutputStart::kContent : OutputStart::kThoughts;
  options.keep_leading_space = choose(4) == 0;
  return options;
}

}  // namespace sheaf::testing

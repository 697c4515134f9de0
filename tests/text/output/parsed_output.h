#pragma once
// Output of a model written as one string for tests, and what a parser makes of it.
//
// In a script "<think>", "<tool_call>", ... stand for the tag tokens; a tag as mere text is written
// with a backslash before its '<' ("\\<think>").

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "router/text/output/output_parser.h"

namespace sheaf::testing {

// One of the scripts' pieces: a tag token, or text.
struct ScriptPiece {
  std::optional<OutputTag> tag;
  std::string text;
};
using Script = std::vector<ScriptPiece>;

inline constexpr TokenId kFirstTagId = 100;

// All tags have tokens.
inline OutputTags TestTags() {
  return {kFirstTagId,     kFirstTagId + 1, kFirstTagId + 2, kFirstTagId + 3,
          kFirstTagId + 4, kFirstTagId + 5, kFirstTagId + 6, kFirstTagId + 7};
}

inline Script ToScript(std::string_view text) {
  Script script;
  const auto add = [&script](char c) {
    if (script.empty() || script.back().tag) script.push_back({});
    script.back().text.push_back(c);
  };
  while (!text.empty()) {
    if (text.starts_with("\\<")) {
      add('<');
      text.remove_prefix(2);
      continue;
    }
    std::optional<OutputTag> found;
    for (size_t i = 0; i < kNumOutputTags; ++i) {
      const auto tag = static_cast<OutputTag>(i);
      if (text.starts_with(OutputTagText(tag))) found = tag;
    }
    if (found) {
      script.push_back({found, std::string(OutputTagText(*found))});
      text.remove_prefix(script.back().text.size());
    } else {
      add(text.front());
      text.remove_prefix(1);
    }
  }
  return script;
}

// Neighbours of one kind become one event.
inline std::vector<OutputEvent> JoinEvents(const std::vector<OutputEvent>& events) {
  std::vector<OutputEvent> joined;
  for (const OutputEvent& event : events) {
    if (!joined.empty() && joined.back().index() == event.index()) {
      if (auto* thoughts = std::get_if<ReasoningText>(&joined.back())) {
        thoughts->text += std::get<ReasoningText>(event).text;
        continue;
      }
      if (auto* content = std::get_if<ContentText>(&joined.back())) {
        content->text += std::get<ContentText>(event).text;
        continue;
      }
      auto* arguments = std::get_if<CallArguments>(&joined.back());
      if (arguments != nullptr && arguments->index == std::get<CallArguments>(event).index) {
        arguments->json += std::get<CallArguments>(event).json;
        continue;
      }
    }
    joined.push_back(event);
  }
  return joined;
}

// One line an event: R(thoughts) C(content) [0 f] A(json) [/0].
inline std::string Show(const std::vector<OutputEvent>& events) {
  std::string shown;
  for (const OutputEvent& event : events) {
    if (!shown.empty()) shown += " ";
    if (const auto* thoughts = std::get_if<ReasoningText>(&event)) {
      shown += "R(" + thoughts->text + ")";
    } else if (const auto* content = std::get_if<ContentText>(&event)) {
      shown += "C(" + content->text + ")";
    } else if (const auto* begin = std::get_if<CallBegin>(&event)) {
      shown += absl::StrFormat("[%d %s]", begin->index, begin->name);
    } else if (const auto* arguments = std::get_if<CallArguments>(&event)) {
      shown += "A(" + arguments->json + ")";
    } else {
      shown += absl::StrFormat("[/%d]", std::get<CallEnd>(event).index);
    }
  }
  return shown;
}

// Pushes a script: tags as their tokens where `tags` has them, text in pieces of `piece_bytes`
// (0: whole).
inline void PushScript(OutputParser& parser, const OutputTags& tags, const Script& script,
                       size_t piece_bytes, std::vector<OutputEvent>& events) {
  for (const ScriptPiece& piece : script) {
    if (piece.tag) {
      const std::optional<TokenId> id = tags.InOrder()[static_cast<size_t>(*piece.tag)];
      if (id) {
        parser.Push(id, piece.text, events);
        continue;
      }
    }
    std::string_view text = piece.text;
    const size_t step = piece_bytes == 0 ? text.size() : piece_bytes;
    for (; !text.empty(); text.remove_prefix(std::min(step, text.size()))) {
      parser.Push(std::nullopt, text.substr(0, step), events);
    }
  }
}

}  // namespace sheaf::testing

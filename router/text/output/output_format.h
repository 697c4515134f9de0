#pragma once
// In which of GLM's formats a checkpoint writes its thoughts and tool calls, and by which tokens.
//
// kGlm45 (GLM-4.5, 4.6) has newlines around its tags, kGlm47 (GLM-4.7, 5, 5.1) has none:
//   <think>{thoughts}</think>\n{content}\n<tool_call>{name}\n<arg_key>{key}</arg_key>\n
//     <arg_value>{value}</arg_value>\n</tool_call>
//   <think>{thoughts}</think>{content}<tool_call>{name}<arg_key>{key}</arg_key><arg_value>...
// Threads  Pure functions. Cost  DetectTagFormats renders two short chats, FindOutputTags walks the
// vocabulary once: at start, not for each request.

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

#include "base/ids.h"
#include "router/text/chat_template.h"
#include "router/text/tokenizer.h"

namespace sheaf {

enum class TagFormat { kNone, kGlm45, kGlm47 };

const char* TagFormatName(TagFormat format);  // "none", "glm45", "glm47"

enum class OutputTag {
  kThinkBegin,
  kThinkEnd,
  kCallBegin,
  kCallEnd,
  kKeyBegin,
  kKeyEnd,
  kValueBegin,
  kValueEnd,
};
inline constexpr size_t kNumOutputTags = 8;

std::string_view OutputTagText(OutputTag tag);  // "<think>", "</think>", "<tool_call>", ...

// The tag tokens of a tokenizer. nullopt: it has no such token, the tag comes as text.
struct OutputTags {
  std::optional<TokenId> think_begin, think_end, call_begin, call_end;
  std::optional<TokenId> key_begin, key_end, value_begin, value_end;

  // In the order of OutputTag.
  std::array<std::optional<TokenId>, kNumOutputTags> InOrder() const;
};

struct OutputFormat {
  TagFormat tools = TagFormat::kNone;
  TagFormat reasoning = TagFormat::kNone;
  OutputTags tags;
};

// Only an added token is a tag token: one of the model's own vocabulary is text that looks alike.
OutputTags FindOutputTags(const Tokenizer& tokenizer);

struct TagFormats {
  TagFormat tools = TagFormat::kNone;
  TagFormat reasoning = TagFormat::kNone;
};

// Told by what the template makes of an earlier turn with thoughts and a tool call. What it does
// not write in either format, or refuses to render, is kNone.
TagFormats DetectTagFormats(const ChatTemplate& chat_template);

enum class OutputStart { kContent, kThoughts };

// Where the text that follows this prompt begins: within thoughts when the prompt has opened them.
// (A template that does not leaves it to the model to write <think> itself, or not to.)
OutputStart FindOutputStart(std::string_view rendered_prompt);

}  // namespace sheaf

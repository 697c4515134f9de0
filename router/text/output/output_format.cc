#include "router/text/output/output_format.h"

#include <string>

#include "router/text/output/json_text.h"

namespace sheaf {
namespace {

constexpr std::array<std::string_view, kNumOutputTags> kTagTexts = {
    "<think>",   "</think>",   "<tool_call>", "</tool_call>",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"};

constexpr std::string_view kProbeThoughts = "probe_thoughts";

TagFormat ReasoningFormat(const ChatTemplate& chat_template) {
  ChatPrompt prompt;
  prompt.messages_json = R"([{"role": "user", "content": "u"}, {"role": "assistant", "content": "c",
                              "reasoning_content": ")" +
                         std::string(kProbeThoughts) + R"("}])";
  prompt.add_generation_prompt = false;
  const absl::StatusOr<std::string> rendered = chat_template.Render(prompt);
  if (!rendered.ok()) return TagFormat::kNone;
  const size_t thoughts = rendered->find(kProbeThoughts);
  if (thoughts == std::string::npos) return TagFormat::kNone;
  const std::string_view before = StripSpace(std::string_view(*rendered).substr(0, thoughts));
  std::string_view after =
      StripSpace(std::string_view(*rendered).substr(thoughts + kProbeThoughts.size()));
  if (!before.ends_with("<think>") || !after.starts_with("</think>")) return TagFormat::kNone;
  after.remove_prefix(OutputTagText(OutputTag::kThinkEnd).size());
  return after.starts_with('\n') ? TagFormat::kGlm45 : TagFormat::kGlm47;
}

TagFormat ToolFormat(const ChatTemplate& chat_template) {
  ChatPrompt prompt;
  prompt.messages_json = R"([{"role": "user", "content": "u"}, {"role": "assistant", "content": "",
      "reasoning_content": "r", "tool_calls": [{"id": "call_0", "type": "function",
      "function": {"name": "f", "arguments": {"a": 1}}}]},
      {"role": "tool", "tool_call_id": "call_0", "content": "t"}])";
  prompt.tools_json = R"([{"type": "function", "function": {"name": "f", "description": "d",
      "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}])";
  const absl::StatusOr<std::string> rendered = chat_template.Render(prompt);
  if (!rendered.ok()) return TagFormat::kNone;
  const auto has = [&](const char* text) { return rendered->find(text) != std::string::npos; };
  if (has("<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>")) {
    return TagFormat::kGlm45;
  }
  if (has("<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value>")) return TagFormat::kGlm47;
  return TagFormat::kNone;
}

}  // namespace

const char* TagFormatName(TagFormat format) {
  switch (format) {
    case TagFormat::kGlm45:
      return "glm45";
    case TagFormat::kGlm47:
      return "glm47";
    case TagFormat::kNone:
      break;
  }
  return "none";
}

std::string_view OutputTagText(OutputTag tag) { return kTagTexts[static_cast<size_t>(tag)]; }

std::array<std::optional<TokenId>, kNumOutputTags> OutputTags::InOrder() const {
  return {think_begin, think_end, call_begin, call_end, key_begin, key_end, value_begin, value_end};
}

OutputTags FindOutputTags(const Tokenizer& tokenizer) {
  std::array<std::optional<TokenId>, kNumOutputTags> ids;
  for (const AddedToken& token : tokenizer.AddedTokens()) {
    for (size_t i = 0; i < kNumOutputTags; ++i) {
      if (token.text == kTagTexts[i]) ids[i] = token.id;
    }
  }
  return {ids[0], ids[1], ids[2], ids[3], ids[4], ids[5], ids[6], ids[7]};
}

TagFormats DetectTagFormats(const ChatTemplate& chat_template) {
  return {.tools = ToolFormat(chat_template), .reasoning = ReasoningFormat(chat_template)};
}

OutputStart FindOutputStart(std::string_view rendered_prompt) {
  const bool open = StripSpace(rendered_prompt).ends_with(OutputTagText(OutputTag::kThinkBegin));
  return open ? OutputStart::kThoughts : OutputStart::kContent;
}

}  // namespace sheaf

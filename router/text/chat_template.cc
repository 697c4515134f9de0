#include "router/text/chat_template.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "router/text/rust_bridge.h"
#include "router/text/template_files.h"

namespace sheaf {
namespace {

SheafChatRender ToAbi(std::string_view messages_json, const ChatPrompt& prompt) {
  return {.messages = ToSheafText(messages_json),
          .tools = ToSheafText(prompt.tools_json),
          .kwargs = ToSheafText(prompt.arguments_json),
          .add_generation_prompt = prompt.add_generation_prompt,
          .local_seconds = prompt.local_seconds};
}

bool HasTools(const ChatPrompt& prompt) {
  return !prompt.tools_json.empty() && prompt.tools_json != "null";
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Load(
    const std::string& checkpoint_dir) {
  SHEAF_ASSIGN_OR_RETURN(const TemplateFiles files, ReadTemplateFiles(checkpoint_dir));
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<ChatTemplate> loaded,
                         FromSource(files.main.name, files.main.text, files.globals_json));
  if (files.tool_use) {
    SHEAF_ASSIGN_OR_RETURN(
        loaded->tool_use_,
        FromSource(files.tool_use->name, files.tool_use->text, files.globals_json));
  }
  return loaded;
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::FromSource(
    std::string_view name, std::string_view source, std::string_view globals_json) {
  SheafChatTemplate* handle = nullptr;
  SheafBuffer error{};
  const SheafTextCode code = sheaf_chat_template_new(ToSheafText(name), ToSheafText(source),
                                                     ToSheafText(globals_json), &handle, &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, name);
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::string(name), handle));
}

ChatTemplate::ChatTemplate(std::string name, SheafChatTemplate* handle)
    : name_(std::move(name)), handle_(handle) {}

ChatTemplate::~ChatTemplate() { sheaf_chat_template_free(handle_); }

absl::StatusOr<std::string> ChatTemplate::Render(const ChatPrompt& prompt) const {
  SHEAF_ASSIGN_OR_RETURN(const std::string messages, NormalizeChatMessages(prompt.messages_json));
  return RenderMessages(messages, prompt);
}

absl::StatusOr<std::string> ChatTemplate::RenderVerbatim(const ChatPrompt& prompt) const {
  return RenderMessages(prompt.messages_json, prompt);
}

absl::StatusOr<RenderedChat> ChatTemplate::RenderMarked(const ChatPrompt& prompt,
                                                        const Tokenizer& tokenizer) const {
  if (tool_use_ != nullptr && HasTools(prompt)) return tool_use_->RenderMarked(prompt, tokenizer);
  SHEAF_ASSIGN_OR_RETURN(const std::string messages, NormalizeChatMessages(prompt.messages_json));
  SheafRanges plain{};
  SheafBuffer text{};
  SheafBuffer error{};
  const SheafTextCode code = sheaf_chat_template_render_marked(
      handle_, ToAbi(messages, prompt), tokenizer.handle(), &plain, &text, &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, "chat template");
  RenderedChat chat{TakeString(text)};
  for (size_t i = 0; i < plain.size; ++i) {
    chat.plain.push_back({plain.data[i].begin, plain.data[i].end});
  }
  sheaf_text_free_ranges(plain);
  return chat;
}

absl::StatusOr<std::string> ChatTemplate::RenderMessages(std::string_view messages_json,
                                                         const ChatPrompt& prompt) const {
  if (tool_use_ != nullptr && HasTools(prompt)) {
    return tool_use_->RenderMessages(messages_json, prompt);
  }
  SheafBuffer text{};
  SheafBuffer error{};
  const SheafTextCode code =
      sheaf_chat_template_render(handle_, ToAbi(messages_json, prompt), &text, &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, "chat template");
  return TakeString(text);
}

absl::StatusOr<std::string> NormalizeChatMessages(std::string_view messages_json) {
  SheafBuffer text{};
  SheafBuffer error{};
  const SheafTextCode code =
      sheaf_chat_messages_normalize(ToSheafText(messages_json), &text, &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, "chat messages");
  return TakeString(text);
}

}  // namespace sheaf

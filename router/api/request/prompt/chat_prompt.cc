#include "router/api/request/prompt/chat_prompt.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "router/api/request/json/excerpt.h"
#include "router/api/request/json/json_fields.h"
#include "router/text/output/json_text.h"

namespace sheaf {
namespace {

// What the last message says; nothing unless that is text.
std::optional<std::string> FinalContent(const ChatInput& chat) {
  const Json messages = Json::parse(chat.messages_json, nullptr, false);
  if (!messages.is_array() || messages.empty()) return std::nullopt;
  const Json& last = messages.back();
  const auto content = last.find("content");
  if (content == last.end()) return std::nullopt;
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) return std::nullopt;
  std::string text;
  for (const Json& part : *content) {
    if (part.is_object() && part.value("text", Json()).is_string()) {
      text += part["text"].get<std::string>();
    }
  }
  return text;
}

}  // namespace

ApiResult<std::string> TemplateArguments(const ChatInput& chat) {
  Json arguments = Json::object();
  if (!chat.template_arguments_json.empty()) {
    arguments = ParseExactJson(chat.template_arguments_json);
    if (!arguments.is_object()) {
      return InvalidFields({{"chat_template_kwargs", "must be a JSON object"}});
    }
  }
  std::optional<bool> thinking = chat.enable_thinking;
  if (!thinking && chat.reasoning_effort == "none") thinking = false;
  if (thinking) {
    const auto sent = arguments.find("enable_thinking");
    if (sent != arguments.end() && *sent != *thinking) {
      return InvalidFields(
          {{chat.enable_thinking ? "enable_thinking" : "reasoning_effort",
            absl::StrFormat("disagrees with chat_template_kwargs.enable_thinking = %s",
                            Excerpt(JsonText(*sent)))}});
    }
    arguments["enable_thinking"] = *thinking;
  }
  if (chat.reasoning_effort && !arguments.contains("reasoning_effort")) {
    arguments["reasoning_effort"] = *chat.reasoning_effort;
  }
  if (!chat.documents_json.empty() && !arguments.contains("documents")) {
    arguments["documents"] = ParseExactJson(chat.documents_json);
  }
  return arguments.empty() ? std::string() : JsonText(arguments);
}

ApiResult<RenderedChat> ChatPromptText(const ChatInput& chat, const TextCodec& codec) {
  ChatInput input = chat;
  auto arguments = TemplateArguments(chat);
  if (auto* error = std::get_if<ApiError>(&arguments)) return std::move(*error);
  input.template_arguments_json = std::get<std::string>(std::move(arguments));
  if (!input.add_generation_prompt) input.add_generation_prompt = !chat.continue_final_message;
  absl::StatusOr<RenderedChat> rendered = codec.RenderChat(input);
  if (!rendered.ok()) {
    return InvalidFields({{"messages", std::string(rendered.status().message())}});
  }
  if (!chat.continue_final_message) return *std::move(rendered);

  const auto content = FinalContent(chat);
  const std::string_view said = content ? StripSpace(*content) : std::string_view();
  if (said.empty()) {
    return InvalidFields({{"continue_final_message", "the last message has no text to continue"}});
  }
  std::string& text = rendered->text;
  const size_t at = text.rfind(said);
  if (at == std::string::npos) {
    return InvalidFields(
        {{"continue_final_message", "the chat template does not write the last message as sent"}});
  }
  text.resize(at + said.size());
  std::erase_if(rendered->plain, [&](const TextRange& r) { return r.end > text.size(); });
  // Templates strip messages; white space at the end is part of what is to be continued.
  const size_t end = content->rfind(said) + said.size();
  text += content->substr(end);
  return *std::move(rendered);
}

}  // namespace sheaf

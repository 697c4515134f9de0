#include "router/text/chat_template.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "nlohmann/json.hpp"
#include "router/text/checkpoint_file.h"
#include "router/text/rust_bridge.h"

namespace sheaf {
namespace {

using Json = nlohmann::json;

constexpr const char* kSpecialTokenNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                              "pad_token", "cls_token", "mask_token"};

// The file's object; an empty one when there is no such file.
absl::StatusOr<Json> ReadTokenizerConfig(const std::string& path) {
  absl::StatusOr<std::string> text = ReadCheckpointFile(path);
  if (absl::IsNotFound(text.status())) return Json::object();
  if (!text.ok()) return text.status();
  Json config = Json::parse(*text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: not a JSON object", path));
  }
  return config;
}

// Tokens are written as "text" or as {"content": "text", ...}.
Json SpecialTokens(const Json& config) {
  Json tokens = Json::object();
  for (const char* name : kSpecialTokenNames) {
    auto token = config.find(name);
    if (token == config.end()) continue;
    if (token->is_object()) {
      auto content = token->find("content");
      if (content != token->end() && content->is_string()) tokens[name] = *content;
    } else if (token->is_string()) {
      tokens[name] = *token;
    }
  }
  return tokens;
}

// `config`'s template, in its string or list form.
absl::StatusOr<std::string> TemplateInConfig(const Json& config, const std::string& path) {
  auto field = config.find("chat_template");
  if (field == config.end() || field->is_null()) {
    return absl::NotFoundError(
        absl::StrFormat("%s: no chat_template here, and no chat_template.jinja beside it", path));
  }
  if (field->is_string()) return field->get<std::string>();
  if (field->is_array()) {
    for (const Json& entry : *field) {
      if (!entry.is_object()) continue;
      auto name = entry.find("name");
      auto source = entry.find("template");
      if (name != entry.end() && *name == "default" && source != entry.end() &&
          source->is_string()) {
        return source->get<std::string>();
      }
    }
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: chat_template lists no template named \"default\"", path));
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: chat_template must be a string or a list, got %s", path, field->type_name()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Load(
    const std::string& checkpoint_dir) {
  const std::string config_path = checkpoint_dir + "/tokenizer_config.json";
  SHEAF_ASSIGN_OR_RETURN(const Json config, ReadTokenizerConfig(config_path));
  std::string name = checkpoint_dir + "/chat_template.jinja";
  absl::StatusOr<std::string> source = ReadCheckpointFile(name);
  if (absl::IsNotFound(source.status())) {
    source = TemplateInConfig(config, config_path);
    name = config_path + "#chat_template";
  }
  if (!source.ok()) return source.status();
  // Bytes that are not UTF-8 cannot get into `config`: nlohmann refuses them when parsing.
  return FromSource(name, *source, SpecialTokens(config).dump());
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::FromSource(
    std::string_view name, std::string_view source, std::string_view globals_json) {
  SheafChatTemplate* handle = nullptr;
  SheafBuffer error{};
  const SheafTextCode code = sheaf_chat_template_new(ToSheafText(name), ToSheafText(source),
                                                     ToSheafText(globals_json), &handle, &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, name);
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(handle));
}

ChatTemplate::ChatTemplate(SheafChatTemplate* handle) : handle_(handle) {}

ChatTemplate::~ChatTemplate() { sheaf_chat_template_free(handle_); }

absl::StatusOr<std::string> ChatTemplate::Render(const ChatPrompt& prompt) const {
  SHEAF_ASSIGN_OR_RETURN(const std::string messages, NormalizeChatMessages(prompt.messages_json));
  return RenderMessages(messages, prompt);
}

absl::StatusOr<std::string> ChatTemplate::RenderVerbatim(const ChatPrompt& prompt) const {
  return RenderMessages(prompt.messages_json, prompt);
}

absl::StatusOr<std::string> ChatTemplate::RenderMessages(std::string_view messages_json,
                                                         const ChatPrompt& prompt) const {
  SheafBuffer text{};
  SheafBuffer error{};
  const SheafTextCode code = sheaf_chat_template_render(
      handle_, ToSheafText(messages_json), ToSheafText(prompt.tools_json),
      ToSheafText(prompt.arguments_json), prompt.add_generation_prompt, &text, &error);
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

#include "router/api/generation/token_service.h"

#include <utility>

#include "router/api/request/prompt/chat_checks.h"
#include "router/api/request/prompt/chat_prompt.h"
#include "router/api/request/prompt/text_bounds.h"

namespace sheaf {

ApiResult<std::vector<TokenId>> TokenizeInput(const ParsedRequest& request,
                                              const ApiContext& context,
                                              const ClientLeft& client_left) {
  if (auto error = CheckModelName(request.model, context.model)) return *std::move(error);
  const ValidationContext validation = context.validation(client_left);
  if (auto left = CheckClient(validation)) return *std::move(left);
  const EncodeBounds bounds{.stop = client_left};
  const auto invalid = [](const char* field, const absl::Status& status) {
    if (absl::IsCancelled(status)) return ApiError{status, {}, {}};
    return InvalidFields({{field, std::string(status.message())}});
  };
  if (request.chat) {
    std::vector<FieldViolation> violations;
    if (auto violation =
            CheckTextBytes("messages", request.chat->content_bytes, request, validation)) {
      return InvalidFields({*std::move(violation)});
    }
    CheckChat(request, validation, violations);
    if (!violations.empty()) return InvalidFields(std::move(violations));
    const auto chat = ChatPromptText(*request.chat, context.codec);
    if (const auto* error = std::get_if<ApiError>(&chat)) return *error;
    const RenderedChat& prompt = std::get<RenderedChat>(chat);
    if (auto violation = CheckTextBytes("messages", prompt.text.size(), request, validation)) {
      return InvalidFields({*std::move(violation)});
    }
    if (auto left = CheckClient(validation)) return *std::move(left);
    auto tokens =
        context.codec.EncodeChat(prompt, request.add_special_tokens.value_or(false), bounds);
    if (!tokens.ok()) return invalid("messages", tokens.status());
    return *std::move(tokens);
  }
  const auto* text =
      request.prompts.empty() ? nullptr : std::get_if<std::string>(&request.prompts.front());
  if (text == nullptr) return InvalidFields({{"prompt", "is required and must be a text"}});
  if (auto violation = CheckTextBytes("prompt", text->size(), request, validation)) {
    return InvalidFields({*std::move(violation)});
  }
  auto tokens = context.codec.Encode(*text, request.add_special_tokens.value_or(true), bounds);
  if (!tokens.ok()) return invalid("prompt", tokens.status());
  return *std::move(tokens);
}

ApiResult<std::string> DetokenizeInput(const std::optional<std::string>& model,
                                       const std::vector<int64_t>& tokens, bool skip_special_tokens,
                                       const ApiContext& context) {
  if (auto error = CheckModelName(model, context.model)) return *std::move(error);
  if (auto violation = CheckTokenIds("tokens", tokens, context.model.config.vocab_size)) {
    return InvalidFields({*std::move(violation)});
  }
  const std::vector<TokenId> ids(tokens.begin(), tokens.end());
  auto text = context.codec.Decode(ids, skip_special_tokens);
  if (!text.ok()) return ApiError{text.status(), {}, {}};
  return *std::move(text);
}

}  // namespace sheaf

#include "router/api/generation/token_service.h"

#include <utility>

#include "router/api/request/chat_checks.h"
#include "router/api/request/chat_prompt.h"

namespace sheaf {

ApiResult<std::vector<TokenId>> TokenizeInput(const ParsedRequest& request,
                                              const ApiContext& context) {
  if (auto error = CheckModelName(request.model, context.model)) return *std::move(error);
  const auto invalid = [](const char* field, const absl::Status& status) {
    return InvalidFields({{field, std::string(status.message())}});
  };
  if (request.chat) {
    std::vector<FieldViolation> violations;
    CheckChat(request, context.validation(), violations);
    if (!violations.empty()) return InvalidFields(std::move(violations));
    const auto chat = ChatPromptText(*request.chat, context.codec);
    if (const auto* error = std::get_if<ApiError>(&chat)) return *error;
    auto tokens = context.codec.EncodeChat(std::get<RenderedChat>(chat),
                                           request.add_special_tokens.value_or(false));
    if (!tokens.ok()) return invalid("messages", tokens.status());
    return *std::move(tokens);
  }
  const auto* text =
      request.prompts.empty() ? nullptr : std::get_if<std::string>(&request.prompts.front());
  if (text == nullptr) return InvalidFields({{"prompt", "is required and must be a text"}});
  auto tokens = context.codec.Encode(*text, request.add_special_tokens.value_or(true));
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

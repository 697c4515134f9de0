#include "router/api/generation/token_service.h"

#include <utility>

namespace sheaf {

ApiResult<std::vector<TokenId>> TokenizeInput(const ParsedRequest& request,
                                              const ApiContext& context) {
  if (auto error = CheckModelName(request.model, context.model)) return *std::move(error);
  const auto invalid = [](const char* field, const absl::Status& status) {
    return InvalidFields({{field, std::string(status.message())}});
  };
  if (request.chat) {
    if (!context.codec.has_chat_template()) {
      return InvalidFields({{"messages", "the checkpoint has no chat template"}});
    }
    const absl::StatusOr<std::string> text = context.codec.RenderChat(*request.chat);
    if (!text.ok()) return invalid("messages", text.status());
    auto tokens = context.codec.Encode(*text, request.add_special_tokens.value_or(false));
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

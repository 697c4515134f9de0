#include "router/api/request/prompt/tokenize_prompts.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_format.h"
#include "router/api/request/json/excerpt.h"
#include "router/api/request/prompt/chat_prompt.h"
#include "router/api/request/prompt/text_bounds.h"

namespace sheaf {
namespace {

// A tokenizer may have tokens that the model has no row for.
ApiResult<std::vector<TokenId>> InVocabulary(absl::StatusOr<std::vector<TokenId>> tokens,
                                             const std::string& field,
                                             const ValidationContext& context) {
  if (absl::IsCancelled(tokens.status())) return ApiError{tokens.status(), {}, {}};
  if (!tokens.ok()) return InvalidFields({{field, std::string(tokens.status().message())}});
  const int vocab_size = context.model.config.vocab_size;
  for (const TokenId id : *tokens) {
    if (id >= 0 && id < vocab_size) continue;
    return InvalidFields(
        {{field, absl::StrFormat("token id %d (\"%s\") is outside the vocabulary [0, %d)", id,
                                 Excerpt(context.codec.TokenText(id)), vocab_size)}});
  }
  return *std::move(tokens);
}

ApiResult<std::vector<PreparedPrompt>> Tokenize(const ParsedRequest& request,
                                                const ValidationContext& context) {
  const TextCodec& codec = context.codec;
  const EncodeBounds bounds = EncodeBoundsOf(request, context);
  const auto given_up = [&](size_t tokens, size_t text_bytes) {
    return tokens > bounds.max_tokens && text_bytes > bounds.piece_bytes;
  };
  std::vector<PreparedPrompt> prompts;
  if (request.chat) {
    auto chat = ChatPromptText(*request.chat, codec);
    if (auto* error = std::get_if<ApiError>(&chat)) return std::move(*error);
    RenderedChat& prompt = std::get<RenderedChat>(chat);
    if (auto violation = CheckTextBytes("messages", prompt.text.size(), request, context)) {
      return InvalidFields({*std::move(violation)});
    }
    if (auto left = CheckClient(context)) return *std::move(left);
    auto encoded =
        InVocabulary(codec.EncodeChat(prompt, request.add_special_tokens.value_or(false), bounds),
                     "messages", context);
    if (auto* error = std::get_if<ApiError>(&encoded)) return std::move(*error);
    auto& tokens = std::get<std::vector<TokenId>>(encoded);
    if (tokens.empty()) return InvalidFields({{"messages", "render to an empty prompt"}});
    const bool beginning = given_up(tokens.size(), prompt.text.size());
    prompts.push_back({std::move(tokens), beginning, std::move(prompt.text)});
    return prompts;
  }
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    PreparedPrompt prompt;
    if (auto left = CheckClient(context)) return *std::move(left);
    if (const auto* ids = std::get_if<std::vector<int64_t>>(&request.prompts[i])) {
      prompt.tokens.assign(ids->begin(), ids->end());
      if (request.echo) {
        auto text = codec.Decode(prompt.tokens, request.skip_special_tokens);
        if (!text.ok()) return ApiError{text.status(), {}, {}};
        prompt.text = *std::move(text);
      }
    } else {
      prompt.text = std::get<std::string>(request.prompts[i]);
      auto encoded =
          InVocabulary(codec.Encode(prompt.text, request.add_special_tokens.value_or(true), bounds),
                       PromptField(request, i), context);
      if (auto* error = std::get_if<ApiError>(&encoded)) return std::move(*error);
      prompt.tokens = std::get<std::vector<TokenId>>(std::move(encoded));
      if (prompt.tokens.empty()) return InvalidFields({{PromptField(request, i), "has no tokens"}});
      prompt.given_up = given_up(prompt.tokens.size(), prompt.text.size());
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

bool BeginsWithTwo(std::span<const TokenId> tokens, std::span<const TokenId> prefix) {
  return !prefix.empty() && tokens.size() >= 2 * prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), tokens.begin()) &&
         std::equal(prefix.begin(), prefix.end(), tokens.begin() + std::ssize(prefix));
}

// Keeps the end of prompts that are too long, where the client asked for it.
void Truncate(const ParsedRequest& request, const ValidationContext& context,
              std::vector<PreparedPrompt>& prompts) {
  if (!request.truncate_prompt_tokens) return;
  int64_t keep = *request.truncate_prompt_tokens;
  if (keep == -1) {
    keep = context.max_model_len -
           std::clamp<int64_t>(request.max_tokens.value_or(1), 1, context.max_model_len - 1);
  }
  for (PreparedPrompt& prompt : prompts) {
    if (static_cast<int64_t>(prompt.tokens.size()) <= keep) continue;
    prompt.tokens.erase(prompt.tokens.begin(), prompt.tokens.end() - keep);
  }
}

// Each choice waits with a copy of its prompt.
std::optional<FieldViolation> CheckWaitingTokens(const std::vector<PreparedPrompt>& prompts,
                                                 int64_t n, const ValidationContext& context) {
  int64_t tokens = 0;
  for (const PreparedPrompt& prompt : prompts) tokens += std::ssize(prompt.tokens);
  if (tokens <= context.limits.max_waiting_tokens / n) return std::nullopt;
  return FieldViolation{
      "prompt",
      absl::StrFormat("at most %d tokens a request in all of its choices, got %d x n = %d",
                      context.limits.max_waiting_tokens, tokens, n)};
}

}  // namespace

std::string PromptField(const ParsedRequest& request, size_t index) {
  return request.prompts.size() == 1 ? "prompt" : absl::StrFormat("prompt[%d]", index);
}

ApiResult<TokenizedPrompts> TokenizePrompts(const ParsedRequest& request,
                                        const ValidationContext& context) {
  auto prompts = Tokenize(request, context);
  if (auto* error = std::get_if<ApiError>(&prompts)) return std::move(*error);
  TokenizedPrompts tokens{std::get<std::vector<PreparedPrompt>>(std::move(prompts))};
  for (const PreparedPrompt& prompt : tokens.prompts) {
    tokens.doubled_prefixes += BeginsWithTwo(prompt.tokens, context.codec.prompt_prefix());
  }
  Truncate(request, context, tokens.prompts);
  if (auto violation = CheckWaitingTokens(tokens.prompts, request.n.value_or(1), context)) {
    return InvalidFields({*std::move(violation)});
  }
  return tokens;
}

}  // namespace sheaf

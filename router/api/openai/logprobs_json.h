#pragma once
// Log-probabilities in the three JSON shapes that clients know.
//
// Values are natural logarithms of the raw distribution, at least -9999 (JSON has no -infinity).
// Threads: pure functions.

#include <optional>
#include <string>
#include <vector>

#include "router/api/request/json_fields.h"
#include "router/api/request/text_codec.h"
#include "router/schedule/generation.h"

namespace sheaf {

struct LogprobStyle {
  const TextCodec& codec;
  bool tokens_as_ids;  // "token_id:123" instead of text
};

// The `logprobs` object of /v1/completions, filled token by token; text_offset counts characters
// (code points).
class CompletionLogprobs {
 public:
  CompletionLogprobs(const LogprobStyle& style, int64_t text_offset)
      : style_(style), text_offset_(text_offset) {}

  void Add(TokenId token, const std::optional<TokenLogprobs>& logprobs);
  int64_t text_offset() const { return text_offset_; }
  Json Take();

 private:
  const LogprobStyle style_;
  int64_t text_offset_;
  Json offsets_ = Json::array(), token_logprobs_ = Json::array(), tokens_ = Json::array(),
       top_logprobs_ = Json::array();
};

// One entry of chat's `logprobs.content`.
Json ChatLogprob(const LogprobStyle& style, const TokenLogprobs& logprobs);

// `prompt_logprobs`: per token null or {"id": {"logprob", "rank", "decoded_token"}, ...}.
Json PromptLogprobsJson(const TextCodec& codec,
                        const std::vector<std::optional<TokenLogprobs>>& logprobs);

}  // namespace sheaf

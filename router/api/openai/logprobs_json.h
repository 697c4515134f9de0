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
#include "router/text/utf8_stream.h"

namespace sheaf {

struct LogprobStyle {
  const TextCodec& codec;
  bool tokens_as_ids;        // "token_id:123" instead of text
  bool skip_special_tokens;  // the text is without them
};

// The `logprobs` objects of one choice of /v1/completions, filled token by token.
//
// `tokens` are the pieces of the text: of a character that several tokens make, the last one has all
// and the others are empty. text_offset counts characters (code points) before the piece. A special
// token that the text leaves out has its own name and no room in the text.
class CompletionLogprobs {
 public:
  explicit CompletionLogprobs(const LogprobStyle& style) : style_(style) {}

  void Add(TokenId token, const std::optional<TokenLogprobs>& logprobs);
  // The object of what was added since the last call.
  Json Take();
  // The same at the end of the text, with what is left of a broken character.
  Json TakeLast();

 private:
  const LogprobStyle style_;
  Utf8Stream characters_;
  int64_t text_offset_ = 0;
  Json offsets_ = Json::array(), token_logprobs_ = Json::array(), tokens_ = Json::array(),
       top_logprobs_ = Json::array();
};

// One entry of chat's `logprobs.content`.
Json ChatLogprob(const LogprobStyle& style, const TokenLogprobs& logprobs);

// `prompt_logprobs`: per token null or {"id": {"logprob", "rank", "decoded_token"}, ...}.
Json PromptLogprobsJson(const TextCodec& codec,
                        const std::vector<std::optional<TokenLogprobs>>& logprobs);

}  // namespace sheaf

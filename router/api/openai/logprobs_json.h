#pragma once
// Log-probabilities in the three JSON shapes that clients know, as text: a prompt of 128 K tokens
// has a hundred megabytes of them, and a tree of values would take ten times that.
//
// Values are natural logarithms of the raw distribution, at least -9999 (JSON has no -infinity).
// Threads: pure functions; CompletionLogprobs one at a time.

#include <optional>
#include <string>
#include <vector>

#include "router/api/request/prompt/text_codec.h"
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
// `tokens` are the pieces of the text: of a character that several tokens make, the last one has
// all and the others are empty. text_offset counts characters (code points) before the piece. A
// special token that the text leaves out has its own name and no room in the text.
class CompletionLogprobs {
 public:
  explicit CompletionLogprobs(const LogprobStyle& style) : style_(style) {}

  void Add(TokenId token, const std::optional<TokenLogprobs>& logprobs);
  // The object of what was added since the last call.
  std::string Take();
  // The same at the end of the text, with what is left of a broken character.
  std::string TakeLast();

 private:
  void NameLast();

  const LogprobStyle style_;
  Utf8Stream characters_;
  int64_t text_offset_ = 0;
  // The insides of the four arrays.
  std::string offsets_, token_logprobs_, tokens_, top_logprobs_;
  std::optional<std::string> last_name_;  // not yet in tokens_
};

// Appends one entry of chat's `logprobs.content`.
void AppendChatLogprob(const LogprobStyle& style, const TokenLogprobs& logprobs, std::string& out);

// Appends entries of `prompt_logprobs`, each with a comma behind it: per token null or
// {"id": {"logprob", "rank", "decoded_token"}, ...}.
void AppendPromptLogprobs(const TextCodec& codec,
                          const std::vector<std::optional<TokenLogprobs>>& logprobs,
                          std::string& out);

}  // namespace sheaf

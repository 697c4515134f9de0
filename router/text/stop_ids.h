#pragma once
// PlanStopIds: the tokens that end an answer, from everything a checkpoint says about them.
//
// Configs name them in three places, often not all in one: a single id in generation_config.json
// would hide the other turns' tokens, and answers run on until max_tokens. So the union counts.
// Threads: pure.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "router/text/tokenizer.h"

namespace sheaf {

// A token behind which the template begins something else than the assistant's text.
struct TurnEnd {
  TokenId id = 0;
  std::string before;  // "a user's message"
};

struct StopId {
  TokenId id = 0;
  std::string text;    // as the vocabulary writes it
  std::string source;  // "eos_token_id", "eos_token", "chat template, before a user's message"
};

struct StopIdPlan {
  std::vector<StopId> ids;           // each once, in the order found
  std::vector<std::string> remarks;  // what an operator should know

  std::vector<TokenId> Ids() const;
  std::string Text() const;  // "4060 <|endoftext|> (eos_token_id), ..."; "none"
};

// `configured`: config.json's and generation_config.json's eos_token_id together; `eos_token`: that
// of tokenizer_config.json, empty: none. Ids that the tokenizer or the model (`vocab_size`) does
// not have are left out with a remark.
StopIdPlan PlanStopIds(std::span<const TokenId> configured, std::string_view eos_token,
                       std::span<const TurnEnd> turn_ends, const Tokenizer& tokenizer,
                       int vocab_size);

}  // namespace sheaf

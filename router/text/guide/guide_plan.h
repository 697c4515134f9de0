#pragma once
// GuidePlan: what one request wants of its output's shape, beside the sampler's parameters: how its
// thoughts begin and end, how long they may be, and which grammar the answer after them keeps.
//
// Made by the API from the request and the rendered prompt; immutable and shared by the request's
// choices, each of which gets an OutputGuide of its own.
//
//   start            prompt ends with          the output begins with
//   kNoThoughts      ...</think>, or no tags   the answer
//   kInside          ...<think>                thoughts (GLM-4.7, GLM-5)
//   kWrittenByModel  ...<|assistant|>          "\n<think>", written by the model itself (GLM-4.6)
//
// A plan with thoughts alone (no budget, no grammar) forbids nothing: it is how reasoning tokens
// get counted.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "router/text/guide/output_grammar.h"
#include "router/text/guide/thought_tracker.h"

namespace sheaf {

enum class ThoughtStart { kNoThoughts, kInside, kWrittenByModel };

struct GuidePlan {
  ThoughtStart start = ThoughtStart::kNoThoughts;
  ThoughtTags tags;
  // kWrittenByModel: the tokens that open thoughts, <think> last. Forced when a grammar follows:
  // the model would otherwise be free to answer without.
  std::vector<TokenId> open_thoughts;
  // Between </think> and the answer ("\n" in GLM-4.6's format): forced before a grammar, and after
  // a </think> that the budget forced.
  std::vector<TokenId> before_answer;
  // After so many tokens of thoughts </think> is forced; 0: at once. Needs tags.think_end.
  std::optional<int32_t> thinking_token_budget;
  // The answer's; begins after the thoughts. Null: the answer is free.
  std::shared_ptr<const OutputGrammar> grammar;

  // Whether it can change a token, rather than count alone.
  bool constrains() const { return grammar != nullptr || thinking_token_budget.has_value(); }
};

}  // namespace sheaf

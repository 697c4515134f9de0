#pragma once
// ChooseNext: from a row of logits to what one sequence goes on with: a token sampled under its
// guide's rule, and the tokens that the guide forces after it (or before one can be sampled).
//
// Same tokens whatever `limit`: what it cuts off is forced again on the next row. And the same
// whether the tokens before these have reached the sequence, or are in `next` still (drafted tokens
// that came true within one step).
//
// Shapes     logits [vocab], the row of the last token before the next one, changed in place.
// Threads    any; one a sequence at a time. Works on the guide: its tokens must reach
//            Sequence::Accept, or the sequence must end.
// Errors     the sampler's and the guide's; they concern this sequence alone.
// Cost       the sampler, a mask where a grammar runs; no memory of the vocabulary's size.

#include <span>
#include <vector>

#include "absl/status/status.h"
#include "base/ids.h"
#include "router/schedule/step/sequence.h"

namespace sheaf {

struct NextTokens {
  std::vector<TokenId> tokens;
  std::vector<bool> forced;  // by index of tokens; else sampled
  bool ended = false;        // the grammar is at its end and no stop token may say so: no tokens
  bool guide_error = false;  // of a status: the guide's own, or a conflict with it
};

// Appends at most `limit` tokens, at least 1.
absl::Status ChooseNext(std::span<float> logits, Sequence& sequence, int limit, NextTokens& next);

}  // namespace sheaf

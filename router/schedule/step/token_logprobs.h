#pragma once
// Log-probabilities of a row of raw logits: natural logarithms, before penalties and temperature.
//
// rank is 1 + the number of tokens that are more probable, the lower id first among equals: the
// place that the token has, or would have, in `top`.
//
// Threads    pure. Cost  O(vocabulary), O(vocabulary log vocabulary) for all of them.
// Errors     kInternal: the logits are not finite.

#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "router/schedule/generation.h"

namespace sheaf {

// num_top: how many of the most probable tokens beside the chosen one; -1 all.
absl::StatusOr<TokenLogprobs> ComputeLogprobs(std::span<const float> logits, TokenId chosen,
                                              int num_top);

// kInternal when a logit is NaN: the model's numbers are broken and no token may be drawn from
// them.
absl::Status CheckLogits(std::span<const float> logits);

}  // namespace sheaf

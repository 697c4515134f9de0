#include "router/schedule/step/token_logprobs.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "kernels/vector/softmax.h"

namespace sheaf {

absl::StatusOr<TokenLogprobs> ComputeLogprobs(std::span<const float> logits, TokenId chosen,
                                              int num_top) {
  const float log_sum = kernels::LogSumExp(logits.data(), logits.size());
  if (!std::isfinite(log_sum)) return absl::InternalError("the model's logits are not finite");
  const auto logprob = [&](TokenId token) { return std::min(0.0f, logits[token] - log_sum); };

  TokenLogprobs result;
  result.chosen.token = chosen;
  result.chosen.logprob = logprob(chosen);
  const float value = logits[chosen];
  int32_t better = 0;
  for (size_t i = 0; i < logits.size(); ++i) better += logits[i] > value;
  for (TokenId i = 0; i < chosen; ++i) better += logits[i] == value;
  result.chosen.rank = better + 1;

  const int vocab_size = static_cast<int>(logits.size());
  const int count = num_top < 0 ? vocab_size : std::min(num_top, vocab_size);
  if (count == 0) return result;
  result.top.reserve(count);
  for (TokenId token : kernels::TopIndexes(logits.data(), logits.size(), count)) {
    result.top.push_back({token, logprob(token), static_cast<int32_t>(result.top.size()) + 1});
  }
  return result;
}

absl::Status CheckLogits(std::span<const float> logits) {
  int32_t num_nan = 0;
  for (float logit : logits) num_nan += logit != logit;
  if (num_nan == 0) return absl::OkStatus();
  return absl::InternalError(
      absl::StrFormat("the model's logits are not numbers (%d of %d)", num_nan, logits.size()));
}

}  // namespace sheaf

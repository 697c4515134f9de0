#include "router/schedule/next_tokens.h"

#include <algorithm>
#include <vector>

#include "base/status.h"
#include "kernels/sampling.h"

namespace sheaf {
namespace {

using kernels::SamplingHistory;
using kernels::SamplingParams;

// Where the rule needs a mask, computes it into this thread's own memory.
absl::Status Mask(OutputGuide& guide, std::span<const TokenId> stop_ids, size_t vocab_size,
                  bool stop_may_come, SamplingHistory& history) {
  thread_local std::vector<uint32_t> mask;
  mask.assign((vocab_size + 31) / 32, 0);
  const GuideRule rule = guide.rule();
  if (rule != GuideRule::kStopOnly) SHEAF_RETURN_IF_ERROR(guide.ComputeMask(mask));
  if (stop_may_come) {
    for (const TokenId id : stop_ids) {
      if (id >= 0 && static_cast<size_t>(id) < vocab_size) mask[id / 32] |= 1u << (id % 32);
    }
  }
  history.mask = mask;
  return absl::OkStatus();
}

absl::StatusOr<TokenId> Sample(std::span<float> logits, Sequence& sequence, NextTokens& next) {
  SamplingHistory history = sequence.history();
  OutputGuide* guide = sequence.guide();
  const GuideRule rule = guide == nullptr ? GuideRule::kFree : guide->rule();
  const SamplingParams& params = sequence.request().sampling;
  if (rule == GuideRule::kFree || rule == GuideRule::kNoStop) {
    return kernels::SampleToken(logits, params, history);
  }
  next.guide_error = true;
  SHEAF_RETURN_IF_ERROR(
      Mask(*guide, sequence.stop_ids(), logits.size(), rule != GuideRule::kGrammar, history));
  absl::StatusOr<TokenId> token;
  if (rule == GuideRule::kStopOnly && !params.allowed_token_ids.empty()) {
    // The text is complete: that it ends is not the request's choice any more.
    SamplingParams at_end = params;
    at_end.allowed_token_ids.clear();
    token = kernels::SampleToken(logits, at_end, history);
  } else {
    token = kernels::SampleToken(logits, params, history);
  }
  if (token.ok()) next.guide_error = false;
  return token;
}

absl::Status Accept(OutputGuide& guide, TokenId token, NextTokens& next) {
  absl::Status status = guide.Accept(token);
  next.guide_error = !status.ok();
  return status;
}

}  // namespace

absl::Status ChooseNext(std::span<float> logits, Sequence& sequence, int limit, NextTokens& next) {
  OutputGuide* guide = sequence.guide();
  if (guide == nullptr || !guide->forced().has_value()) {
    if (guide != nullptr && guide->rule() == GuideRule::kStopOnly && !sequence.CanStop()) {
      next.ended = true;
      return absl::OkStatus();
    }
    SHEAF_ASSIGN_OR_RETURN(const TokenId token, Sample(logits, sequence, next));
    next.tokens.push_back(token);
    next.sampled = true;
    if (guide == nullptr || sequence.Stops(token, 0)) return absl::OkStatus();
    SHEAF_RETURN_IF_ERROR(Accept(*guide, token, next));
  }
  while (static_cast<int>(next.tokens.size()) < limit) {
    const std::optional<TokenId> token = guide->forced();
    if (!token.has_value()) break;
    next.tokens.push_back(*token);
    if (sequence.Stops(*token, static_cast<int>(next.tokens.size()) - 1)) break;
    SHEAF_RETURN_IF_ERROR(Accept(*guide, *token, next));
  }
  return absl::OkStatus();
}

}  // namespace sheaf

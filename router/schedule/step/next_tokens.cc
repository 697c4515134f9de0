#include "router/schedule/step/next_tokens.h"

#include <optional>
#include <vector>

#include "base/status.h"
#include "kernels/sampling/sampling.h"

namespace sheaf {
namespace {

using kernels::SamplingHistory;
using kernels::SamplingParams;

bool IsOfGrammar(GuideRule rule) { return rule != GuideRule::kFree && rule != GuideRule::kNoStop; }

// The rule for the next token and, where a grammar says it, the mask: in this thread's own memory.
absl::StatusOr<GuideRule> RuleAndMask(OutputGuide& guide, std::span<const TokenId> stop_ids,
                                      size_t vocab_size, std::span<const uint32_t>& mask) {
  if (!IsOfGrammar(guide.rule())) return guide.rule();
  thread_local std::vector<uint32_t> words;
  words.assign((vocab_size + 31) / 32, 0);
  if (guide.rule() != GuideRule::kStopOnly) SHEAF_RETURN_IF_ERROR(guide.ComputeMask(words));
  const GuideRule rule = guide.rule();
  if (rule != GuideRule::kGrammar) {
    for (const TokenId id : stop_ids) {
      if (id >= 0 && static_cast<size_t>(id) < vocab_size) words[id / 32] |= 1u << (id % 32);
    }
  }
  mask = words;
  return rule;
}

// No token: the grammar is at its end and no stop token may say so.
absl::StatusOr<std::optional<TokenId>> Sample(std::span<float> logits, Sequence& sequence,
                                              std::span<const TokenId> ahead) {
  const SamplingParams& params = sequence.request().sampling;
  OutputGuide* guide = sequence.guide();
  if (guide == nullptr) return kernels::SampleToken(logits, params, sequence.history(ahead));
  std::span<const uint32_t> mask;
  SHEAF_ASSIGN_OR_RETURN(const GuideRule rule,
                         RuleAndMask(*guide, sequence.stop_ids(), logits.size(), mask));
  if (rule == GuideRule::kStopOnly && !sequence.CanStop()) return std::nullopt;
  SamplingHistory history = sequence.history(ahead);
  history.mask = mask;
  if (rule == GuideRule::kStopOnly && !params.allowed_token_ids.empty()) {
    // The text is complete: that it ends is not the request's choice any more.
    SamplingParams at_end = params;
    at_end.allowed_token_ids.clear();
    return kernels::SampleToken(logits, at_end, history);
  }
  return kernels::SampleToken(logits, params, history);
}

absl::Status Accept(OutputGuide& guide, TokenId token, NextTokens& next) {
  absl::Status status = guide.Accept(token);
  next.guide_error = !status.ok();
  return status;
}

}  // namespace

absl::Status ChooseNext(std::span<float> logits, Sequence& sequence, int limit, NextTokens& next) {
  OutputGuide* guide = sequence.guide();
  const size_t end = next.tokens.size() + static_cast<size_t>(limit);
  // Whether it is over with `token`, the next one.
  const auto stops = [&](TokenId token) {
    return sequence.Stops(token, static_cast<int>(next.tokens.size()));
  };
  const auto append = [&](TokenId token, bool forced) {
    next.tokens.push_back(token);
    next.forced.push_back(forced);
  };
  if (guide == nullptr || !guide->forced().has_value()) {
    const absl::StatusOr<std::optional<TokenId>> sampled = Sample(logits, sequence, next.tokens);
    if (!sampled.ok()) {
      next.guide_error = guide != nullptr && IsOfGrammar(guide->rule());
      return sampled.status();
    }
    if (!sampled->has_value()) {
      next.ended = true;
      return absl::OkStatus();
    }
    const TokenId token = **sampled;
    const bool over = stops(token);
    append(token, /*forced=*/false);
    if (guide == nullptr || over) return absl::OkStatus();
    SHEAF_RETURN_IF_ERROR(Accept(*guide, token, next));
  }
  while (next.tokens.size() < end) {
    const std::optional<TokenId> token = guide->forced();
    if (!token.has_value()) break;
    const bool over = stops(*token);
    append(*token, /*forced=*/true);
    if (over) break;
    SHEAF_RETURN_IF_ERROR(Accept(*guide, *token, next));
  }
  return absl::OkStatus();
}

}  // namespace sheaf

#include "router/metrics/speculation_metrics.h"

#include <algorithm>
#include <string>

#include "prometheus/family.h"

namespace sheaf {

SpeculationMetrics::SpeculationMetrics(prometheus::Registry& registry)
    : drafts_(prometheus::BuildCounter()
                  .Name("sheaf_speculation_drafts_total")
                  .Help("Drafts that were verified.")
                  .Register(registry)
                  .Add({})),
      drafted_tokens_(prometheus::BuildCounter()
                          .Name("sheaf_speculation_draft_tokens_total")
                          .Help("Tokens of those drafts.")
                          .Register(registry)
                          .Add({})) {
  auto& accepted = prometheus::BuildCounter()
                       .Name("sheaf_speculation_accepted_tokens_total")
                       .Help("Of those tokens, the ones that came true.")
                       .Register(registry);
  for (int position = 0; position < kPositions; ++position) {
    accepted_tokens_[position] = &accepted.Add({{"position", std::to_string(position)}});
  }
}

void SpeculationMetrics::Verified(int64_t drafts, int64_t drafted_tokens,
                                  std::span<const int> accepted_at) {
  if (drafts == 0) return;
  drafts_.Increment(static_cast<double>(drafts));
  drafted_tokens_.Increment(static_cast<double>(drafted_tokens));
  for (size_t i = 0; i < std::min(accepted_at.size(), accepted_tokens_.size()); ++i) {
    if (accepted_at[i] > 0) accepted_tokens_[i]->Increment(accepted_at[i]);
  }
}

}  // namespace sheaf

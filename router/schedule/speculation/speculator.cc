#include "router/schedule/speculation/speculator.h"

#include <algorithm>

namespace sheaf {

std::vector<TokenId> Speculator::DraftOf(Known& known, const SpeculatedRun& run) const {
  const int size = static_cast<int>(run.text.size());
  known.indexed = std::min(size, known.indexed + kMostNewTokens);
  known.index.Extend(run.text.first(known.indexed));
  if (known.indexed < size) return {};
  return known.index.Draft(run.text, std::min(run.room, options_.longest_draft));
}

const std::vector<std::vector<TokenId>>& Speculator::Draft(std::span<const SpeculatedRun> runs,
                                                           const DraftBudget& budget) {
  drafts_.assign(runs.size(), {});
  if (!enabled()) return drafts_;
  std::vector<DraftCandidate> candidates;
  for (size_t i = 0; i < runs.size(); ++i) {
    Known& known = known_.try_emplace(runs[i].id, options_.ngram).first->second;
    drafts_[i] = DraftOf(known, runs[i]);
    candidates.push_back({static_cast<int>(drafts_[i].size()), known.record.ShouldProbe(),
                          [this, &known](int length) {
                            return options_.always ? 1.0 : known.record.Accepted(length);
                          }});
  }
  decoding_ = static_cast<int>(
      std::count_if(runs.begin(), runs.end(), [](const auto& run) { return run.room > 0; }));
  DraftBudget paid = budget;
  if (options_.always) {
    paid.step_cost = [](int) { return 1.0; };
  } else if (!payoff_.MayDraft(decoding_)) {
    paid.tokens = 0;
  }
  const std::vector<int> lengths = PlanDrafts(candidates, static_cast<int>(runs.size()), paid);
  for (size_t i = 0; i < runs.size(); ++i) {
    if (lengths[i] == 0 && !drafts_[i].empty()) known_.at(runs[i].id).record.Passed();
    drafts_[i].resize(static_cast<size_t>(lengths[i]));
  }
  drafted_ = std::any_of(lengths.begin(), lengths.end(), [](int length) { return length > 0; });
  return drafts_;
}

void Speculator::StepRan(int tokens, Duration took) {
  payoff_.StepRan(decoding_, drafted_, tokens, took);
}

void Speculator::Verified(SequenceId id, int drafted, int accepted) {
  const auto known = known_.find(id);
  if (known != known_.end()) known->second.record.Tried(drafted, accepted);
}

}  // namespace sheaf

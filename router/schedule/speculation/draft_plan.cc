#include "router/schedule/speculation/draft_plan.h"

#include <queue>
#include <utility>

namespace sheaf {

std::vector<int> PlanDrafts(std::span<const DraftCandidate> candidates, int sequences,
                            const DraftBudget& budget) {
  std::vector<int> lengths(candidates.size(), 0);
  int rows = 0;
  double tokens = sequences;
  struct Next {
    double gain;
    size_t candidate;
    bool operator<(const Next& other) const {
      return gain != other.gain ? gain < other.gain : candidate > other.candidate;
    }
  };
  std::priority_queue<Next> next;
  const auto offer = [&](size_t i) {
    if (lengths[i] < candidates[i].longest) next.push({candidates[i].accepted(lengths[i] + 1), i});
  };
  const auto take = [&](size_t i, double gain) {
    ++lengths[i];
    ++rows;
    tokens += gain;
  };
  for (size_t i = 0; i < candidates.size(); ++i) {
    const DraftCandidate& candidate = candidates[i];
    if (candidate.probe && candidate.longest > 0 && rows < budget.tokens) {
      take(i, candidate.accepted(1));
    }
  }
  for (size_t i = 0; i < candidates.size(); ++i) offer(i);
  // The best of all numbers of rows, not the first that no further row betters: the second row of a
  // step can cost much (other kernels, the experts of another token) and those after it little.
  std::vector<int> best_lengths = lengths;
  double best_rate = tokens / budget.step_cost(rows);
  while (!next.empty() && rows < budget.tokens) {
    const Next best = next.top();
    next.pop();
    take(best.candidate, best.gain);
    const double rate = tokens / budget.step_cost(rows);
    if (rate > best_rate) {
      best_rate = rate;
      best_lengths = lengths;
    }
    offer(best.candidate);
  }
  return best_lengths;
}

}  // namespace sheaf

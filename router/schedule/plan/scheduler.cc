#include "router/schedule/plan/scheduler.h"

#include <algorithm>
#include <numeric>

namespace sheaf {
namespace {

class Planner {
 public:
  Planner(const SchedulerState& state, const SchedulerLimits& limits)
      : state_(state),
        limits_(limits),
        free_blocks_(state.free_blocks),
        budget_(limits.max_num_batched_tokens),
        planned_(state.running.size()),
        is_preempted_(state.running.size(), false) {}

  StepPlan Plan() {
    std::vector<size_t> decodes, prefills;
    int64_t decode_tokens = 0;
    for (size_t i = 0; i < state_.running.size(); ++i) {
      (IsDecode(i) ? decodes : prefills).push_back(i);
      if (IsDecode(i)) decode_tokens += Missing(i);
    }
    if (decode_tokens < budget_) {
      for (size_t i : decodes) RunTokens(i, Missing(i), /*may_preempt=*/true);
      for (size_t i : prefills) RunTokens(i, Missing(i), /*may_preempt=*/false);
    } else {
      // Not everyone gets a turn: decodes and prefills alike, the one that waited longest first.
      std::vector<size_t> order(state_.running.size());
      std::iota(order.begin(), order.end(), size_t{0});
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return state_.running[a].last_step < state_.running[b].last_step;
      });
      for (size_t i : order) RunTokens(i, Missing(i), /*may_preempt=*/IsDecode(i));
    }
    // All that is left waits for blocks that prefills hold: the oldest takes them.
    if (NothingPlanned() && !state_.running.empty()) {
      RunTokens(0, Missing(0), /*may_preempt=*/true);
    }
    Admit();
    return Result();
  }

 private:
  struct Planned {
    int num_tokens = 0;
    int new_blocks = 0;
  };

  int Missing(size_t i) const {
    return state_.running[i].total_tokens - state_.running[i].computed_tokens;
  }

  bool IsDecode(size_t i) const { return state_.running[i].prefilled || Missing(i) == 1; }

  bool NothingPlanned() const {
    return std::all_of(planned_.begin(), planned_.end(),
                       [](const Planned& p) { return p.num_tokens == 0; });
  }

  int NewBlocks(const RunningSequence& sequence, int num_tokens) const {
    return std::max(
        0, BlocksForTokens(int64_t{sequence.computed_tokens} + num_tokens, limits_.block_size) -
               sequence.owned_blocks);
  }

  // Plans up to `wanted` tokens of running[i]: fewer when budget or blocks run out.
  void RunTokens(size_t i, int wanted, bool may_preempt) {
    if (is_preempted_[i]) return;
    const RunningSequence& sequence = state_.running[i];
    int num_tokens = std::min(wanted, budget_);
    if (num_tokens < 1) return;
    while (may_preempt && NewBlocks(sequence, num_tokens) > free_blocks_) {
      const size_t victim = NewestRunning();
      if (victim == i && Older(i)) {
        Preempt(i);
        return;
      }
      if (victim == i) break;  // alone: it takes what is free
      Preempt(victim);
    }
    const int64_t positions_with_blocks =
        (int64_t{sequence.owned_blocks} + free_blocks_) * limits_.block_size -
        sequence.computed_tokens;
    num_tokens = static_cast<int>(std::min<int64_t>(num_tokens, positions_with_blocks));
    if (num_tokens < 1) return;
    planned_[i] = {num_tokens, NewBlocks(sequence, num_tokens)};
    budget_ -= num_tokens;
    free_blocks_ -= planned_[i].new_blocks;
  }

  // The running sequence that was admitted last, of those not preempted. At least one is left.
  size_t NewestRunning() const {
    size_t newest = is_preempted_.size() - 1;
    while (is_preempted_[newest]) --newest;
    return newest;
  }

  bool Older(size_t i) const {
    return std::any_of(is_preempted_.begin(), is_preempted_.begin() + i,
                       [](bool gone) { return !gone; });
  }

  void Preempt(size_t i) {
    is_preempted_[i] = true;
    preempted_.push_back(state_.running[i].id);
    free_blocks_ += state_.running[i].owned_blocks - state_.running[i].shared_blocks +
                    planned_[i].new_blocks;
    budget_ += planned_[i].num_tokens;
    planned_[i] = {};
  }

  void Admit() {
    if (!preempted_.empty()) return;  // what was just taken away is not given to a newcomer
    // Promised: the blocks that running sequences need for the tokens they already have.
    int64_t available = free_blocks_;
    for (size_t i = 0; i < state_.running.size(); ++i) {
      const RunningSequence& sequence = state_.running[i];
      available -= std::max(0, BlocksForTokens(sequence.total_tokens, limits_.block_size) -
                                   sequence.owned_blocks - planned_[i].new_blocks);
    }
    size_t running = state_.running.size();
    for (const QueuedSequence& sequence : state_.queued) {
      if (static_cast<int>(running) >= limits_.max_num_seqs || budget_ < 1) return;
      if (sequence.deferred) continue;
      const int blocks = BlocksForTokens(int64_t{sequence.total_tokens} + 1, limits_.block_size) -
                         sequence.shared_blocks;
      // A few blocks of slack, or the next decodes would preempt the newcomer at once.
      const int slack = running == 0 ? 0 : std::max(1, state_.total_blocks / 100);
      if (blocks + slack > available && !(running == 0 && FitsWithoutNext(sequence, available)))
        return;
      const int num_tokens = std::min(sequence.total_tokens - sequence.cached_tokens, budget_);
      const int new_blocks =
          BlocksForTokens(int64_t{sequence.cached_tokens} + num_tokens, limits_.block_size) -
          sequence.cached_tokens / limits_.block_size;
      admitted_.push_back({sequence.id, num_tokens, new_blocks});
      budget_ -= num_tokens;
      available -= blocks;
      ++running;
    }
  }

  // The last sequence of a full cache may end with the token it samples next, which needs no block.
  bool FitsWithoutNext(const QueuedSequence& sequence, int64_t available) const {
    return BlocksForTokens(sequence.total_tokens, limits_.block_size) - sequence.shared_blocks <=
           available;
  }

  StepPlan Result() {
    StepPlan plan;
    plan.preempted = std::move(preempted_);
    for (size_t i = 0; i < planned_.size(); ++i) {
      if (planned_[i].num_tokens == 0) continue;
      plan.runs.push_back({state_.running[i].id, planned_[i].num_tokens, planned_[i].new_blocks});
    }
    for (const StepPlan::Run& run : admitted_) plan.admitted.push_back(run.id);
    plan.runs.insert(plan.runs.end(), admitted_.begin(), admitted_.end());
    return plan;
  }

  const SchedulerState& state_;
  const SchedulerLimits& limits_;
  int free_blocks_;
  int budget_;
  std::vector<Planned> planned_;    // by index in running
  std::vector<bool> is_preempted_;  // by index in running
  std::vector<SequenceId> preempted_;
  std::vector<StepPlan::Run> admitted_;
};

}  // namespace

int StepPlan::num_tokens() const {
  int sum = 0;
  for (const Run& run : runs) sum += run.num_tokens;
  return sum;
}

StepPlan PlanStep(const SchedulerState& state, const SchedulerLimits& limits) {
  return Planner(state, limits).Plan();
}

}  // namespace sheaf

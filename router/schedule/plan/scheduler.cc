#include "router/schedule/plan/scheduler.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <tuple>

#include "router/schedule/plan/prefill_share.h"

namespace sheaf {
namespace {

// Sequences are admitted ahead of the tokens that there is room for while fewer prefills than these
// are open, so that a short one behind a long one is seen.
constexpr int kOpenPrefills = 8;
// A prefill that lacks less than one in so many of its tokens is nearly done.
constexpr int kNearlyDone = 4;

class Planner {
 public:
  Planner(const SchedulerState& state, const SchedulerLimits& limits, const StepCostModel* cost)
      : state_(state),
        limits_(limits),
        cost_(cost),
        free_blocks_(state.free_blocks),
        budget_(limits.max_num_batched_tokens),
        planned_(state.running.size()),
        is_preempted_(state.running.size(), false),
        by_seniority_(state.running.size()) {
    std::iota(by_seniority_.begin(), by_seniority_.end(), size_t{0});
    std::sort(by_seniority_.begin(), by_seniority_.end(),
              [this](size_t a, size_t b) { return IsSenior(a, b); });
  }

  StepPlan Plan() {
    UnblockTheMostSenior();
    int64_t decode_tokens = 0;
    for (size_t i : by_seniority_) {
      if (IsDecode(i)) decode_tokens += Missing(i);
    }
    if (decode_tokens >= budget_) {
      RunInTurn();
    } else {
      for (size_t i : by_seniority_) {
        if (IsDecode(i)) RunTokens(i, Missing(i), /*may_preempt=*/true);
      }
    }
    Admit();
    for (size_t i = 0; i < planned_.size(); ++i) AddToShape(i);
    ShareAmongPrefills();
    return Result();
  }

 private:
  struct Planned {
    int num_tokens = 0;
    int new_blocks = 0;
  };

  const RunningSequence& running(size_t i) const { return state_.running[i]; }

  bool IsSenior(size_t a, size_t b) const {
    return std::tie(running(a).priority, running(a).id) <
           std::tie(running(b).priority, running(b).id);
  }

  int Missing(size_t i) const { return running(i).total_tokens - running(i).computed_tokens; }

  bool IsDecode(size_t i) const { return running(i).prefilled || Missing(i) == 1; }

  void AddToShape(size_t i) {
    const int num_tokens = planned_[i].num_tokens;
    if (num_tokens == 0) return;
    shape_.Add(IsDecode(i), running(i).computed_tokens, num_tokens);
    if (num_tokens == Missing(i)) ++shape_.logit_rows;
  }

  int NewBlocks(const RunningSequence& sequence, int num_tokens) const {
    return std::max(
        0, BlocksForTokens(int64_t{sequence.computed_tokens} + num_tokens, limits_.block_size) -
               sequence.owned_blocks);
  }

  // A prefill too takes blocks when it stands before all others and cannot go on without: as much
  // as a block holds.
  void UnblockTheMostSenior() {
    for (size_t i : by_seniority_) {
      if (is_preempted_[i]) continue;
      if (NewBlocks(running(i), 1) > free_blocks_) {
        RunTokens(i, std::min(Missing(i), limits_.block_size), /*may_preempt=*/true);
      }
      return;
    }
  }

  // Not everyone gets a turn: decodes and prefills alike, the one that waited longest first.
  void RunInTurn() {
    std::vector<size_t> order = by_seniority_;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return running(a).last_step < running(b).last_step;
    });
    for (size_t i : order) RunTokens(i, Missing(i), /*may_preempt=*/IsDecode(i));
  }

  // Plans up to `wanted` tokens of running[i]: fewer when budget or blocks run out.
  void RunTokens(size_t i, int wanted, bool may_preempt) {
    if (is_preempted_[i] || planned_[i].num_tokens > 0) return;
    const RunningSequence& sequence = running(i);
    int num_tokens = std::min(wanted, budget_);
    if (num_tokens < 1) return;
    if (may_preempt) TakeBlocks(i, num_tokens);
    const int64_t positions_with_blocks =
        (int64_t{sequence.owned_blocks} + free_blocks_) * limits_.block_size -
        sequence.computed_tokens;
    num_tokens = static_cast<int>(std::min<int64_t>(num_tokens, positions_with_blocks));
    if (num_tokens < 1) return;
    planned_[i] = {num_tokens, NewBlocks(sequence, num_tokens)};
    budget_ -= num_tokens;
    free_blocks_ -= planned_[i].new_blocks;
  }

  // Preempts juniors of `i` until num_tokens more of it fit; nobody if not even one would then.
  void TakeBlocks(size_t i, int num_tokens) {
    // What juniors share among themselves is free only when all of them are gone, so the most
    // senior, to whom all must give way, does not count.
    if (!IsMostSenior(i)) {
      int64_t obtainable = free_blocks_;
      for (size_t j : by_seniority_) {
        if (IsSenior(i, j) && !is_preempted_[j]) obtainable += Freed(j);
      }
      if (NewBlocks(running(i), 1) > obtainable) return;
    }
    while (NewBlocks(running(i), num_tokens) > free_blocks_) {
      const std::optional<size_t> victim = Victim(i);
      if (!victim.has_value()) return;
      Preempt(*victim);
    }
  }

  bool IsMostSenior(size_t i) const {
    for (size_t j : by_seniority_) {
      if (!is_preempted_[j]) return j == i;
    }
    return false;
  }

  int Freed(size_t i) const {
    return running(i).owned_blocks - running(i).shared_blocks + planned_[i].new_blocks;
  }

  // Who gives its blocks to `i`.
  std::optional<size_t> Victim(size_t i) const {
    // The smaller, the sooner: no block gained, priority, nearly done, tokens to compute again.
    const auto rank = [&](size_t j) {
      const RunningSequence& sequence = running(j);
      const bool nearly_done = !IsDecode(j) && sequence.computed_tokens > 0 &&
                               Missing(j) < sequence.total_tokens / kNearlyDone;
      const int64_t lost =
          int64_t{sequence.computed_tokens} - int64_t{sequence.shared_blocks} * limits_.block_size;
      return std::tuple(Freed(j) == 0, -int64_t{sequence.priority}, nearly_done, lost);
    };
    std::optional<size_t> victim;
    for (auto j = by_seniority_.rbegin(); j != by_seniority_.rend(); ++j) {
      if (is_preempted_[*j] || running(*j).owned_blocks + planned_[*j].new_blocks == 0) continue;
      if (!IsSenior(i, *j)) continue;
      if (!victim.has_value() || rank(*j) < rank(*victim)) victim = *j;
    }
    return victim;
  }

  void Preempt(size_t i) {
    free_blocks_ += Freed(i);
    budget_ += planned_[i].num_tokens;
    planned_[i] = {};
    is_preempted_[i] = true;
  }

  // Which of the queued become running. Decodes have their blocks by now, prefills not yet.
  void Admit() {
    // What was just taken away is not given to a newcomer.
    if (std::find(is_preempted_.begin(), is_preempted_.end(), true) != is_preempted_.end()) return;
    // Promised: the blocks that running sequences need for the tokens they already have.
    int64_t available = free_blocks_;
    int64_t missing_tokens = 0;
    int open = 0;
    for (size_t i = 0; i < state_.running.size(); ++i) {
      const RunningSequence& sequence = running(i);
      available -= std::max(0, BlocksForTokens(sequence.total_tokens, limits_.block_size) -
                                   sequence.owned_blocks - planned_[i].new_blocks);
      if (IsDecode(i)) continue;
      missing_tokens += Missing(i) - planned_[i].num_tokens;
      ++open;
    }
    size_t running = state_.running.size();
    StepPlan::Overtaken passed;  // of the first that lacks blocks
    int64_t may_pass = -1;       // tokens; -1: nobody lacks blocks
    for (const QueuedSequence& sequence : state_.queued) {
      if (static_cast<int>(running) >= limits_.max_num_seqs || budget_ < 1) break;
      if (open >= kOpenPrefills && missing_tokens >= budget_) break;
      if (sequence.deferred) continue;
      if (!Fits(sequence, static_cast<int>(running), available)) {
        if (may_pass >= 0) continue;
        passed.id = sequence.id;
        may_pass = std::max<int64_t>(0, sequence.total_tokens - sequence.overtaken_tokens);
        continue;
      }
      if (may_pass >= 0) {
        if (sequence.total_tokens > may_pass) continue;
        may_pass -= sequence.total_tokens;
        passed.tokens += sequence.total_tokens;
      }
      plan_.admitted.push_back(sequence.id);
      admitted_.push_back(&sequence);
      available -= BlocksForTokens(int64_t{sequence.total_tokens} + 1, limits_.block_size) -
                   sequence.shared_blocks;
      // Cached blocks that nobody owned are not free any more.
      free_blocks_ -= CachedBlocks(sequence) - sequence.shared_blocks;
      missing_tokens += sequence.total_tokens - sequence.cached_tokens;
      ++open;
      ++running;
    }
    if (passed.tokens > 0) plan_.overtaken.push_back(passed);
  }

  int CachedBlocks(const QueuedSequence& sequence) const {
    return sequence.cached_tokens / limits_.block_size;
  }

  bool Fits(const QueuedSequence& sequence, int running, int64_t available) const {
    const int blocks = BlocksForTokens(int64_t{sequence.total_tokens} + 1, limits_.block_size) -
                       sequence.shared_blocks;
    // A few blocks of slack, or the next decodes would preempt the newcomer at once.
    const int slack = running == 0 ? 0 : std::max(1, state_.total_blocks / 100);
    if (blocks + slack <= available) return true;
    // The last sequence of a full cache may end with the token it samples next, which needs no
    // block.
    return running == 0 &&
           BlocksForTokens(sequence.total_tokens, limits_.block_size) - sequence.shared_blocks <=
               available;
  }

  void ShareAmongPrefills() {
    std::vector<Prefill> prefills;
    std::vector<size_t> indices;
    for (size_t i = 0; i < state_.running.size(); ++i) {
      if (IsDecode(i) || is_preempted_[i] || planned_[i].num_tokens > 0) continue;
      const RunningSequence& sequence = running(i);
      prefills.push_back({sequence.id, sequence.priority, Missing(i), sequence.computed_tokens,
                          sequence.owned_blocks, sequence.last_step});
      indices.push_back(i);
    }
    for (const QueuedSequence* sequence : admitted_) {
      prefills.push_back({sequence->id, sequence->priority,
                          sequence->total_tokens - sequence->cached_tokens, sequence->cached_tokens,
                          CachedBlocks(*sequence), 0});
    }
    plan_.target_ms = SharePrefill(
        {budget_, free_blocks_, limits_.block_size, state_.step, limits_.target_step_ms}, cost_,
        shape_, prefills);
    for (size_t k = 0; k < prefills.size(); ++k) {
      const Prefill& prefill = prefills[k];
      if (k < indices.size()) {
        planned_[indices[k]] = {prefill.num_tokens, prefill.new_blocks};
      } else if (prefill.num_tokens > 0) {
        first_runs_.push_back({prefill.id, prefill.num_tokens, prefill.new_blocks});
      }
    }
  }

  StepPlan Result() {
    for (auto i = by_seniority_.rbegin(); i != by_seniority_.rend(); ++i) {
      if (is_preempted_[*i]) plan_.preempted.push_back(running(*i).id);
    }
    for (size_t i = 0; i < planned_.size(); ++i) {
      if (planned_[i].num_tokens == 0) continue;
      plan_.runs.push_back({running(i).id, planned_[i].num_tokens, planned_[i].new_blocks});
    }
    plan_.runs.insert(plan_.runs.end(), first_runs_.begin(), first_runs_.end());
    plan_.shape = shape_;
    return std::move(plan_);
  }

  const SchedulerState& state_;
  const SchedulerLimits& limits_;
  const StepCostModel* cost_;
  int free_blocks_;
  int budget_;
  std::vector<Planned> planned_;    // by index in running
  std::vector<bool> is_preempted_;  // by index in running
  std::vector<size_t> by_seniority_;
  std::vector<const QueuedSequence*> admitted_;
  std::vector<StepPlan::Run> first_runs_;  // of those admitted
  StepShape shape_;
  StepPlan plan_;
};

}  // namespace

StepPlan PlanStep(const SchedulerState& state, const SchedulerLimits& limits,
                  const StepCostModel* cost) {
  return Planner(state, limits, cost).Plan();
}

}  // namespace sheaf

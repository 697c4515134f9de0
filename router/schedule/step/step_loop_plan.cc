// From the state as it is to the runs of the next step: the plan, and what it does to queue,
// running sequences and blocks.
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "router/schedule/step/cache_view.h"
#include "router/schedule/step/step_loop.h"

namespace sheaf {

bool StepLoop::ForgetIfWanted() {
  const bool wanted = reset_wanted_.exchange(false, std::memory_order_acq_rel);
  if (wanted) cache_.Forget();
  return wanted;
}

void StepLoop::ComputeAllAgain(TimePoint now) {
  std::vector<SequenceId> ids;
  int64_t tokens = 0;
  for (const auto& sequence : running_) {
    ids.push_back(sequence->id());
    tokens += sequence->computed_tokens;
  }
  parts_.observer->OnCacheLost(static_cast<int>(ids.size()), tokens);
  for (const SequenceId id : ids) PutBack(id, FairOrder::ComesBack::kPreempted, now);
  cache_.Forget();
}

StepLoop::Planned StepLoop::Plan(TimePoint now) {
  std::vector<RunningSequence> running_view;
  for (const auto& sequence : running_) {
    RunningSequence view;
    view.id = sequence->id();
    view.total_tokens = sequence->total_tokens();
    view.computed_tokens = sequence->computed_tokens;
    view.owned_blocks = static_cast<int>(sequence->blocks.size());
    view.shared_blocks = cache_.NumShared(sequence->prefix, sequence->blocks);
    view.last_step = sequence->last_step;
    view.prefilled = sequence->prefilled;
    if (!sequence->prefilled) sequence->waited = now - sequence->submitted();
    view.priority = sequence->request().priority;
    view.waited = sequence->waited;
    running_view.push_back(view);
  }
  CacheView view(cache_, running_);
  std::vector<QueuedSequence> queued = LookAtQueue(view, now);
  // Whoever asked for it before a request that is in this view came must not see it served.
  if (ForgetIfWanted()) return Plan(now);
  AgePriorities(running_view, queued);
  return {planner_.Plan(
              {running_view, queued, cache_.num_free(), cache_.num_blocks(), step_}),
          view.restoring(), running_.empty() && queued.empty()};
}

void StepLoop::Apply(const StepPlan& plan, TimePoint now) {
  for (const SequenceId id : plan.preempted) PutBack(id, FairOrder::ComesBack::kPreempted, now);
  // All of them take what is cached before anybody's new blocks can evict it.
  Admit(plan.admitted, now);
  std::unordered_map<SequenceId, Sequence*> by_id;
  for (const auto& sequence : running_) by_id[sequence->id()] = sequence.get();
  runs_.clear();
  run_ids_.clear();
  for (const StepPlan::Run& run : plan.runs) {
    Sequence* sequence = by_id.at(run.id);
    sequence->last_step = step_;
    const bool allocated = cache_.Allocate(run.new_blocks, sequence->blocks);
    SHEAF_CHECK(allocated, "a plan needs no more blocks than are free");
    runs_.push_back({sequence, run.num_tokens});
    run_ids_.push_back(run.id);
  }
  if (speculator_.enabled() && !runs_.empty()) AddDrafts(plan.num_tokens());
  free_blocks_.store(cache_.num_free(), std::memory_order_release);
}

void StepLoop::PutBack(SequenceId id, FairOrder::ComesBack how, TimePoint now) {
  std::unique_ptr<Sequence> sequence = TakeRunning(id);
  cache_.Free(sequence->prefix, sequence->blocks);
  sequence->Restart();
  ledger_.Return(std::move(sequence), how, now);
}

void StepLoop::Admit(std::span<const SequenceId> ids, TimePoint now) {
  if (ids.empty()) return;
  for (std::unique_ptr<Sequence>& taken : ledger_.Take(ids, now)) {
    running_.push_back(std::move(taken));
    Sequence& sequence = *running_.back();
    const int most = sequence.reusable_tokens() / cache_.block_size();
    sequence.computed_tokens =
        cache_.Take(sequence.prefix, most, sequence.blocks) * cache_.block_size();
    if (sequence.admitted.has_value()) continue;
    sequence.admitted = std::max(now, sequence.submitted());  // it may have come since `now`
    sequence.cached_tokens = std::min(sequence.computed_tokens, sequence.prompt_tokens());
    parts_.observer->OnAdmitted(*sequence.admitted - sequence.submitted());
    if (cache_.enabled()) {
      parts_.observer->OnPrefixLookup(sequence.total_tokens(), sequence.computed_tokens);
    }
  }
}

}  // namespace sheaf

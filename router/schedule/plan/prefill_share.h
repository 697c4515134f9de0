#pragma once
// SharePrefill: how many tokens of which prompt join the decodes of a step.
//
// Bounds     of tokens: what is left of the step's budget. Of blocks: those free. Of time, where
//            the step has decodes (so that their streams do not wait): the target, by the cost
//            model, or kLeastStepGrowth times the decodes' own time, whichever is more; where it
//            has none, no bound.
// Order      by priority, then the fewest tokens missing, then the id: a short prompt is wholly in
//            the step although a long one is under way.
// Shares     of the best priority present, the most senior has a quarter of the step's prefill
//            (tokens and time) before the others, so that short ones cannot starve it. Where a
//            quarter is less than a block, it has the whole prefill of one step in four instead.
// Floor      a token a step goes on, whatever the time says.
//
// Threads    pure. Cost  O(prefills log prefills + a search of the model each).

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "router/schedule/plan/step_cost.h"

namespace sheaf {

// An automatic target is so many times what the step's decodes alone would take: below 2 by as much
// as steps scatter, so that the p99 of the time between tokens stays below twice that without
// prefills.
inline constexpr double kStepGrowth = 1.8;
inline constexpr double kLeastStepGrowth = 1.25;
inline constexpr int kShareOfSenior = 4;  // one in so many

struct Prefill {
  SequenceId id;
  int32_t priority = 0;
  int missing_tokens = 0;
  int computed_tokens = 0;
  int owned_blocks = 0;  // of one that is still queued: those cached
  uint64_t last_step = 0;
  int num_tokens = 0;  // out: to run
  int new_blocks = 0;  // out: for them
};

struct PrefillBounds {
  int tokens = 0;
  int free_blocks = 0;
  int block_size = 16;
  uint64_t step = 0;
  double target_step_ms = 0;  // 0: automatic
};

// `shape` is that of the step's decodes, and then of the whole step. Returns the time that was
// aimed at in milliseconds, 0 for none. cost null: no bound of time.
double SharePrefill(const PrefillBounds& bounds, const StepCostModel* cost, StepShape& shape,
                    std::vector<Prefill>& prefills);

}  // namespace sheaf

#pragma once
// PlanStep: which sequences run how many tokens in the next step. A pure function of what it is
// given.
//
// Order      Sequences stand by (priority, id): a lower priority first, then who was submitted
//            earlier. Ahead of another in that order: its senior.
// Rules      1. Decodes first: every running sequence that lacks one token, or only the few that a
//               guide appended together, runs them.
//            2. Prefill chunks fill the step up to its token budget and, beside decodes, up to a
//               time (prefill_share.h): the shortest first, with a share for the most senior.
//            3. Sequences are admitted in the order of `queued`, when a slot and the blocks for all
//               its tokens so far are free beside those that running prefills still need, and while
//               few prefills are open. A deferred one is skipped. The first that lacks blocks may
//               be passed by others that fit, until those had as many tokens as it has itself; from
//               then on the blocks that get free are kept for it.
//            4. When a decode needs a block and none is free, juniors of it give theirs: those of
//               the lowest priority first, then the one that costs least to compute again, a
//               prefill that is nearly done last. They return to the queue and are computed again
//               later (sampling is by output index, so its tokens stay the same). Without juniors
//               it waits for a block: nobody takes one from a senior.
//            5. With a budget that the decodes alone exhaust, those served longest ago run first.
// Progress   the most senior running sequence takes every other's blocks if it must, and nobody
//            takes its own: it always runs and ends; hence none starves. A plan
//            may be empty while somebody is preempted in it: the next one is not.
//
// Threads    pure. Cost  O(running log running + queued + searches of the cost model).

#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "router/schedule/plan/step_cost.h"

namespace sheaf {

struct SchedulerLimits {
  int max_num_seqs = 64;              // running at once, at least 1
  int max_num_batched_tokens = 2048;  // of one step, at least 1
  int block_size = 16;                // tokens
  // A step with decodes and prefills should take so long; 0: kStepGrowth times what its decodes
  // alone would.
  double target_step_ms = 0;
};

// A sequence that has been admitted. computed_tokens < total_tokens: at least one token is to be
// run.
struct RunningSequence {
  SequenceId id;            // smaller: submitted earlier
  int total_tokens = 0;     // prompt and output so far
  int computed_tokens = 0;  // of those, in the cache
  int owned_blocks = 0;
  uint64_t last_step = 0;  // when it ran last; 0: never
  bool prefilled = false;  // has run to its end before: what it lacks are its newest tokens
  int shared_blocks = 0;   // of those owned, owned by others too: preempting it frees only the rest
  int32_t priority = 0;    // lower is earlier
  Duration waited{0};      // for its prefill to end
};

struct QueuedSequence {
  SequenceId id;
  int total_tokens = 0;
  int cached_tokens = 0;  // at its beginning, whole blocks: the prefix cache has them
  int shared_blocks = 0;  // of those blocks, owned by running sequences: they cost no free block
  bool deferred = false;  // somebody computes its next block right now: not in this step, and
                          // others may overtake it meanwhile
  int32_t priority = 0;   // lower is earlier
  Duration waited{0};     // since its submission
  int64_t overtaken_tokens = 0;  // admitted past it while it lacked blocks
};

struct SchedulerState {
  std::span<const RunningSequence> running;
  std::span<const QueuedSequence> queued;  // in the order in which they shall be admitted
  int free_blocks = 0;  // owned by nobody; those that the prefix cache keeps included
  int total_blocks = 0;
  uint64_t step = 0;  // of the plan, as last_step counts
};

struct StepPlan {
  struct Run {
    SequenceId id;
    int num_tokens = 0;
    int new_blocks = 0;  // to allocate before the step; beside the cached ones of one just admitted
  };
  struct Overtaken {
    SequenceId id;
    int64_t tokens = 0;  // admitted past it in this plan
  };
  std::vector<SequenceId> preempted;  // most junior first
  // Of `queued`, in its order. An admitted one has its cached tokens computed and owns their blocks
  // from then on. Some may not run yet in this step.
  std::vector<SequenceId> admitted;
  std::vector<Run> runs;             // preempted sequences are not among them
  std::vector<Overtaken> overtaken;  // at most one
  StepShape shape;
  double target_ms = 0;  // what prefills were planned for; 0: as many tokens as the budget has

  int num_tokens() const { return shape.rows(); }
};

// `cost` null: steps are not bounded by time.
StepPlan PlanStep(const SchedulerState& state, const SchedulerLimits& limits,
                  const StepCostModel* cost = nullptr);

constexpr int BlocksForTokens(int64_t tokens, int block_size) {
  return static_cast<int>((tokens + block_size - 1) / block_size);
}

}  // namespace sheaf

#pragma once
// PlanStep: which sequences run how many tokens in the next step. A pure function of what it is
// given.
//
// Rules      1. Decodes first: every running sequence that lacks one token, or only the few that a
//               guide appended together, runs them.
//            2. The rest of the token budget goes to prefill chunks, in order of admission, then to
//               newly admitted sequences in order of arrival (never past one that does not fit:
//               nobody is overtaken).
//               A deferred one steps aside and is overtaken.
//            3. A sequence is admitted when the blocks for all its tokens so far are free beside
//               those that running prefills still need.
//            4. When a decode (or the oldest running sequence) needs a block and none is free, the
//               sequence that was admitted last is preempted: its blocks are freed, it returns to
//               the head of the queue and is computed again later (sampling is by output index, so
//               its tokens stay the same).
//            5. With a budget that the decodes alone exhaust, those served longest ago run first.
// Progress   the oldest running sequence may take every other's blocks, so it always runs and ends;
//            hence none starves.
//
// Threads    pure. Cost  O(running log running + admitted).

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"

namespace sheaf {

struct SchedulerLimits {
  int max_num_seqs = 64;              // running at once, at least 1
  int max_num_batched_tokens = 2048;  // of one step, at least 1
  int block_size = 16;                // tokens
};

// A sequence that has been admitted. computed_tokens < total_tokens: at least one token is to be
// run.
struct RunningSequence {
  SequenceId id;
  int total_tokens = 0;     // prompt and output so far
  int computed_tokens = 0;  // of those, in the cache
  int owned_blocks = 0;
  uint64_t last_step = 0;  // when it ran last; 0: never
  bool prefilled = false;  // has run to its end before: what it lacks are its newest tokens
  int shared_blocks = 0;   // of those owned, others' too: they stay when this one is preempted
};

struct QueuedSequence {
  SequenceId id;
  int total_tokens = 0;
  int cached_tokens = 0;  // at its beginning, whole blocks: the prefix cache has them
  int shared_blocks = 0;  // of those blocks, owned by running sequences: they cost no free block
  bool deferred = false;  // somebody computes its next block right now: not in this step, and
                          // others may overtake it meanwhile
};

struct SchedulerState {
  std::span<const RunningSequence> running;  // in order of admission
  std::span<const QueuedSequence> queued;    // in order of arrival, preempted ones first
  int free_blocks = 0;
  int total_blocks = 0;
};

struct StepPlan {
  struct Run {
    SequenceId id;
    int num_tokens = 0;
    int new_blocks = 0;  // to allocate before the step
  };
  std::vector<SequenceId>
      preempted;          // newest first: pushing each to the head of the queue keeps their order
  std::vector<SequenceId> admitted;  // of `queued`, those that become running, in order
  std::vector<Run> runs;  // preempted sequences are not among them

  int num_tokens() const;
};

StepPlan PlanStep(const SchedulerState& state, const SchedulerLimits& limits);

constexpr int BlocksForTokens(int64_t tokens, int block_size) {
  return static_cast<int>((tokens + block_size - 1) / block_size);
}

}  // namespace sheaf

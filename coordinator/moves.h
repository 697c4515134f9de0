#pragma once
// PlanMoves: from what should be held and what is, what each worker should be told to hold next:
// load first, announce, and only then let others drop. Pure; asked again whenever something was
// announced.
//
//   drop     a worker may drop an expert that it should not hold when every worker that should has
//            announced it and is certain to keep it. Where memory is too small for that, one such
//            worker is enough. Never the last holder.
//   load     what it should hold and does not, as far as its memory goes beside what it still keeps
//   urgent   experts that nobody can be relied on to hold: those that steps wait for first
//
// A worker is certain to keep an expert when each Hold that it may still carry out has it: one that
// was told to drop and then to keep may drop in between.
//
// Cost       64 workers, 92 layers of 120: under a millisecond when nothing moves.

#include <cstdint>
#include <span>
#include <vector>

#include "coordinator/expert_set.h"

namespace sheaf {

struct MoveWorker {
  // Others may rely on what it holds: not leaving, draining or quarantined.
  bool counts = true;
  int64_t slots = 0;         // experts that fit into its memory; 0 = no bound
  const ExpertSet* held;     // announced last
  const ExpertSet* certain;  // held, and in every Hold that it may still carry out
  const ExpertSet* target;   // of the plan
};

struct NextHold {
  ExpertSet experts;           // complete
  std::vector<size_t> urgent;  // of those, not held yet: load in this order, first
  int64_t postponed = 0;       // of the target, for want of memory
};

// `waited_for`: experts that a router's step waits for. The answer is as `workers`.
std::vector<NextHold> PlanMoves(size_t grid_size, std::span<const MoveWorker> workers,
                                std::span<const size_t> waited_for);

}  // namespace sheaf

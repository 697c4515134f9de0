#pragma once
// PlanPlacement: which worker should hold which experts. Pure.
//
// A layer takes as long as its slowest worker, so each layer is balanced by itself: a worker's
// share of a layer's work follows its measured speed, as far as its memory goes. An expert's work
// is half what its weights cost (all alike) and half its measured pairs; copies divide it.
//   copies     floor(replicas) of each expert, on different workers; the fraction: so many of the
//              hottest experts of the whole model get one more
//   few moves  what is held, or was wanted before, stays where it is, unless a layer is out of
//              balance by more than `tolerance`
//   memory     a first copy goes before another's second
//   fresh      nothing held, equal workers, one copy: one contiguous range of a layer a worker;
//              ranges differ by at most one, and who has the longer ones changes from layer to
//              layer:
//              7 experts on 3 workers: 3 2 2, then 2 3 2, then 2 2 3
//
// Errors     none: what does not fit is counted in the plan.
// Cost       92 layers of 120 experts on 64 workers: a few milliseconds.

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "coordinator/expert_set.h"

namespace sheaf {

struct PlanWorker {
  WorkerId worker;
  bool takes = true;            // false: gets nothing (draining, spare, quarantined)
  uint64_t memory_bytes = 0;    // for experts; 0 = no bound
  double seconds_per_unit = 0;  // measured; 0 = not known: as fast as the mean
  // Sets of the grid's size; null = empty.
  const ExpertSet* held = nullptr;     // in memory now
  const ExpertSet* wanted = nullptr;   // by the plan before
  const ExpertSet* refused = nullptr;  // it cannot load these
};

struct PlanRequest {
  ExpertGrid grid;
  uint64_t expert_bytes = 1;  // resident, of one
  double replicas = 1;        // >= 1
  double tolerance = 0.1;  // of a layer's imbalance that is not worth moves; 0 = as even as it goes
  std::span<const double> load;  // [grid.size()] measured pairs, any unit; empty = all alike
  std::vector<PlanWorker> workers;
};

struct PlacementPlan {
  std::vector<ExpertSet> targets;  // as request.workers
  int64_t moves = 0;               // experts that somebody has to load
  int64_t unplaced = 0;            // experts that nobody is to hold: no memory, or all refuse
  int64_t missing_copies = 0;      // further copies that found no place
};

PlacementPlan PlanPlacement(const PlanRequest& request);

// Gives each of `experts` that no target has to a worker that takes, with as little else as can be;
// where memory is full a further copy of another expert makes room. targets as request.workers.
// Returns how many found no place.
int64_t AdoptExperts(const PlanRequest& request, std::span<const size_t> experts,
                     std::vector<ExpertSet>& targets);

}  // namespace sheaf

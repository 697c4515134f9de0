#pragma once
// PoolPlanner: plans over the members of a pool: who should hold what (targets in the members), and
// what each is to be told next. Between the records of pool_member.h and the pure plans of
// placement_plan.h and moves.h.
//
// Threads    one at a time. Pure: members in, targets and messages out.

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "coordinator/expert_set.h"
#include "coordinator/placement_plan.h"
#include "coordinator/pool_member.h"
#include "sheaf/v1/pool.pb.h"

namespace sheaf {

struct PlannerOptions {
  double tolerance = 0.1;  // placement_plan.h
  // Ceiling on reading for moves that nobody waits for, a worker; 0 = none.
  uint64_t move_bytes_per_second = uint64_t{256} << 20;
  // Between two Holds to a worker without anything urgent.
  Duration hold_every = std::chrono::milliseconds(200);
};

class PoolPlanner {
 public:
  PoolPlanner(ExpertGrid grid, PlannerOptions options) : grid_(grid), options_(options) {}

  // The whole plan. A lost share that is left to its replacement takes part like a worker.
  PlacementPlan Replan(Roster& roster, std::map<WorkerId, LostShare>& lost, double replicas,
                       std::span<const double> load, bool exact) const;

  // Those of `experts` that no member in `among` should hold get one of them; returns how many
  // found no place.
  int64_t Adopt(Roster& roster, std::span<const size_t> experts,
                const std::vector<WorkerId>& among) const;

  // The next Hold of each worker that needs one. Marks it as sent. `unbounded`: no ceiling.
  std::vector<std::pair<SessionId, v1::Hold>> NextHolds(Roster& roster,
                                                        std::span<const size_t> waited_for,
                                                        bool unbounded, TimePoint now) const;

  // Experts that only `worker` can be relied on to hold.
  std::vector<size_t> OnlyHeldBy(const Roster& roster, WorkerId worker) const;
  // Of each expert: members that count and hold it.
  std::vector<int> Holders(const Roster& roster) const;

 private:
  uint64_t ExpertBytes(const Roster& roster) const;

  const ExpertGrid grid_;
  const PlannerOptions options_;
};

}  // namespace sheaf

#pragma once
// StepPlanner: PlanStep (scheduler.h) with what must be remembered from step to step: what steps
// cost (step_cost.h), and who was overtaken while it lacked blocks.
//
//   StepPlan plan = planner.Plan(state);   ... run it ...   planner.StepDone(duration);
//
// A step that is given up is not reported: it says nothing of what its work costs.
//
// Threads    one. Time comes in as durations. Cost  PlanStep's and the model's.

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "router/schedule/plan/scheduler.h"
#include "router/schedule/plan/step_cost.h"

namespace sheaf {

// Whoever has waited gains a level of priority for each kAgingInterval, at most kMostAging, and
// never more than the best that anyone here asked for: so a lower priority does not starve, and a
// long prompt under way does not push back the short ones that come.
inline constexpr Duration kAgingInterval = std::chrono::seconds(30);
inline constexpr int32_t kMostAging = 8;
void AgePriorities(std::vector<RunningSequence>& running, std::vector<QueuedSequence>& queued);

class StepPlanner {
 public:
  StepPlanner(const SchedulerLimits& limits, const ExpertSpread& spread);

  // overtaken_tokens of state.queued are filled in here. Those passed before and not in `queued`
  // any more are forgotten, so `queued` begins with the head of the queue.
  StepPlan Plan(const SchedulerState& state);
  // What the last plan would take with so many drafted tokens verified beside it; 0: not known yet.
  double MsWithDrafts(int rows) const;
  // The last plan verifies so many.
  void AddDrafts(int rows);
  // Of the last plan, which ran to its end.
  void StepDone(Duration duration);

  double predicted_ms() const { return predicted_ms_; }  // of the last plan; 0: not known yet

 private:
  StepShape ShapeWithDrafts(int rows) const;

  const SchedulerLimits limits_;
  StepCostModel cost_;
  std::unordered_map<SequenceId, int64_t> overtaken_;  // tokens; of those queued
  StepShape shape_;                                    // of the last plan
  double predicted_ms_ = 0;
};

}  // namespace sheaf

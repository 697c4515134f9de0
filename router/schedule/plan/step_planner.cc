#include "router/schedule/plan/step_planner.h"

#include <algorithm>
#include <limits>

namespace sheaf {

namespace {

int32_t Aged(int32_t priority, Duration waited, int32_t best) {
  const int64_t levels = std::clamp<int64_t>(waited / kAgingInterval, 0, kMostAging);
  return static_cast<int32_t>(std::max<int64_t>(priority - levels, best));
}

}  // namespace

void AgePriorities(std::vector<RunningSequence>& running, std::vector<QueuedSequence>& queued) {
  int32_t best = std::numeric_limits<int32_t>::max();
  for (const RunningSequence& sequence : running) best = std::min(best, sequence.priority);
  for (const QueuedSequence& sequence : queued) best = std::min(best, sequence.priority);
  for (auto& each : running) each.priority = Aged(each.priority, each.waited, best);
  for (auto& each : queued) each.priority = Aged(each.priority, each.waited, best);
}

StepPlanner::StepPlanner(const SchedulerLimits& limits, const ExpertSpread& spread)
    : limits_(limits), cost_(spread) {}

StepPlan StepPlanner::Plan(const SchedulerState& state) {
  std::vector<QueuedSequence> queued(state.queued.begin(), state.queued.end());
  std::unordered_map<SequenceId, int64_t> overtaken;
  for (QueuedSequence& sequence : queued) {
    const auto found = overtaken_.find(sequence.id);
    if (found == overtaken_.end()) continue;
    sequence.overtaken_tokens = found->second;
    overtaken.insert(*found);
  }
  overtaken_ = std::move(overtaken);
  SchedulerState with_overtaken = state;
  with_overtaken.queued = queued;
  StepPlan plan = PlanStep(with_overtaken, limits_, &cost_);
  for (const StepPlan::Overtaken& passed : plan.overtaken) overtaken_[passed.id] += passed.tokens;
  shape_ = plan.shape;
  predicted_ms_ = cost_.PredictMs(shape_);
  return plan;
}

// A drafted token is a row as any other newest one, at about the place of the step's others.
StepShape StepPlanner::ShapeWithDrafts(int rows) const {
  StepShape shape = shape_;
  if (shape.rows() > 0) shape.attended += rows * (shape_.attended / shape_.rows());
  shape.decode_rows += rows;
  shape.logit_rows += rows;
  return shape;
}

double StepPlanner::MsWithDrafts(int rows) const { return cost_.PredictMs(ShapeWithDrafts(rows)); }

void StepPlanner::AddDrafts(int rows) {
  shape_ = ShapeWithDrafts(rows);
  predicted_ms_ = cost_.PredictMs(shape_);
}

void StepPlanner::StepDone(Duration duration) { cost_.Observe(shape_, duration); }

}  // namespace sheaf

#include "router/schedule/step/step_in_flight.h"

#include <algorithm>
#include <utility>

namespace sheaf {

StepInFlight::StepInFlight(RequestLedger& ledger, const Clock& clock, Calls calls)
    : ledger_(ledger), clock_(clock), calls_(std::move(calls)) {}

void StepInFlight::Begin(std::span<const SequenceRun> runs, TimePoint now) {
  sequences_.clear();
  for (const SequenceRun& run : runs) sequences_.push_back(run.sequence);
  is_over_.assign(runs.size(), false);
  num_over_ = 0;
  is_open_ = true;
  Watch(now);
}

void StepInFlight::Watch(TimePoint now) {
  TimePoint next = now + kLookEvery;
  ids_.clear();
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (is_over_[i]) continue;
    ids_.push_back(sequences_[i]->id());
    next = std::min(next, sequences_[i]->request().deadline.value_or(TimePoint::max()));
  }
  ledger_.EndStep();
  ledger_.BeginStep(ids_, next);
}

void StepInFlight::Close() {
  is_open_ = false;
  ledger_.EndStep();
  OnDropped();
}

void StepInFlight::Look() {
  if (!is_open_ || !ledger_.LookIsDue()) return;
  const TimePoint now = clock_.Now();
  calls_.end_what_is_over(now);
  Watch(now);
}

int StepInFlight::IndexOf(const Sequence& sequence) const {
  if (!is_open_) return -1;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (!is_over_[i] && sequences_[i] == &sequence) return static_cast<int>(i);
  }
  return -1;
}

void StepInFlight::Bury(std::unique_ptr<Sequence> sequence) {
  const int index = IndexOf(*sequence);
  is_over_[static_cast<size_t>(index)] = true;
  ++num_over_;
  buried_.push_back(std::move(sequence));
}

void StepInFlight::OnDropped() {
  for (const std::unique_ptr<Sequence>& sequence : buried_) calls_.release(*sequence);
  buried_.clear();
}

}  // namespace sheaf

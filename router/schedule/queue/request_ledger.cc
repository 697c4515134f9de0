#include "router/schedule/queue/request_ledger.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"

namespace sheaf {

RequestLedger::RequestLedger(const Admission::Limits& limits, const Clock& clock)
    : limits_(limits), clock_(clock), admission_(limits) {}

absl::Status RequestLedger::AddAll(std::vector<std::unique_ptr<Sequence>> sequences) {
  absl::MutexLock lock(&mutex_);
  if (stop_at_.has_value()) return absl::UnavailableError("the server is shutting down");
  const int count = static_cast<int>(sequences.size());
  if (absl::Status room = admission_.CheckRoom(count); !room.ok()) return room;
  for (std::unique_ptr<Sequence>& sequence : sequences) {
    alive_.insert(sequence->id());
    admission_.Push(std::move(sequence));
  }
  woken_ = true;
  return absl::OkStatus();
}

void RequestLedger::Cancel(SequenceId id) {
  absl::MutexLock lock(&mutex_);
  if (!alive_.contains(id)) return;
  cancelled_.insert(id);
  if (in_step_.contains(id)) RaiseMootAt(TimePoint::min());
  woken_ = true;
}

void RequestLedger::StopStringFound(SequenceId id) {
  absl::MutexLock lock(&mutex_);
  if (!alive_.contains(id)) return;
  stopped_.insert(id);
  woken_ = true;
}

void RequestLedger::StopAt(TimePoint moment) {
  absl::MutexLock lock(&mutex_);
  stop_at_ = std::min(stop_at_.value_or(moment), moment);
  if (!in_step_.empty()) RaiseMootAt(*stop_at_);
  woken_ = true;
}

void RequestLedger::ClusterChanged() {
  absl::MutexLock lock(&mutex_);
  cluster_changed_ = true;
  woken_ = true;
}

bool RequestLedger::stopping() const {
  absl::MutexLock lock(&mutex_);
  return stop_at_.has_value();
}

bool RequestLedger::StepIsMoot() const {
  const TimePoint moot_at = moot_at_.load(std::memory_order_acquire);
  return moot_at != TimePoint::max() && clock_.Now() >= moot_at;
}

EngineLoad RequestLedger::load() const {
  absl::MutexLock lock(&mutex_);
  EngineLoad load;
  load.queued = admission_.size();
  load.running = static_cast<int>(alive_.size()) - load.queued;
  return load;
}

Duration RequestLedger::RetryAfter() const {
  absl::MutexLock lock(&mutex_);
  return admission_.RetryAfter();
}

bool RequestLedger::Wait(Duration at_most) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&woken_), absl::FromChrono(at_most));
  woken_ = false;
  return std::exchange(cluster_changed_, false);
}

bool RequestLedger::HasQueued() const { return num_queued() > 0; }

int RequestLedger::num_queued() const {
  absl::MutexLock lock(&mutex_);
  return admission_.size();
}

std::vector<QueuedSequence> RequestLedger::PeekQueued(int count) const {
  std::vector<QueuedSequence> queued;
  absl::MutexLock lock(&mutex_);
  for (int i = 0; i < std::min(count, admission_.size()); ++i) {
    queued.push_back({admission_.at(i).id(), admission_.at(i).total_tokens()});
  }
  return queued;
}

std::unique_ptr<Sequence> RequestLedger::TakeFront(TimePoint now) {
  absl::MutexLock lock(&mutex_);
  return admission_.TakeFront(now);
}

std::vector<std::unique_ptr<Sequence>> RequestLedger::TakeIf(
    const std::function<bool(const Sequence&)>& condition) {
  absl::MutexLock lock(&mutex_);
  return admission_.TakeIf(condition);
}

void RequestLedger::Return(std::unique_ptr<Sequence> preempted) {
  absl::MutexLock lock(&mutex_);
  admission_.Return(std::move(preempted));
}

std::unordered_set<SequenceId> RequestLedger::TakeCancelled() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(cancelled_, {});
}

std::unordered_set<SequenceId> RequestLedger::TakeStopped() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(stopped_, {});
}

std::optional<TimePoint> RequestLedger::stop_at() const {
  absl::MutexLock lock(&mutex_);
  return stop_at_;
}

void RequestLedger::Ended(SequenceId id) {
  absl::MutexLock lock(&mutex_);
  alive_.erase(id);
  cancelled_.erase(id);
  stopped_.erase(id);
}

void RequestLedger::BeginStep(std::span<const SequenceId> ids, TimePoint earliest_deadline) {
  absl::MutexLock lock(&mutex_);
  in_step_.insert(ids.begin(), ids.end());
  TimePoint moot_at = std::min(earliest_deadline, stop_at_.value_or(TimePoint::max()));
  for (const SequenceId id : ids) {
    if (cancelled_.contains(id)) moot_at = TimePoint::min();
  }
  moot_at_.store(moot_at, std::memory_order_release);
}

void RequestLedger::EndStep() {
  absl::MutexLock lock(&mutex_);
  in_step_.clear();
  moot_at_.store(TimePoint::max(), std::memory_order_release);
}

void RequestLedger::RaiseMootAt(TimePoint moment) {
  if (moment < moot_at_.load(std::memory_order_relaxed)) {
    moot_at_.store(moment, std::memory_order_release);
  }
}

}  // namespace sheaf

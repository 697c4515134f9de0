#include "router/schedule/queue/request_ledger.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"

namespace sheaf {

RequestLedger::RequestLedger(const Admission::Limits& limits, const Clock& clock)
    : limits_(limits), clock_(clock), admission_(limits) {}

// Counts what is refused.
absl::Status RequestLedger::Refuse(absl::Status status) {
  if (absl::IsResourceExhausted(status)) ++refused_.full;
  if (absl::IsInvalidArgument(status)) ++refused_.never_fits;
  if (absl::IsDeadlineExceeded(status)) ++refused_.too_late;
  return status;
}

void RequestLedger::NoteWaiting() {
  waiting_over_at_.store(
      cancelled_waiting_.empty() ? admission_.earliest_deadline() : TimePoint::min(),
      std::memory_order_release);
}

absl::Status RequestLedger::CheckRoom(int64_t count, int64_t tokens) {
  absl::MutexLock lock(&mutex_);
  return Refuse(admission_.CheckRoom(count, tokens));
}

absl::Status RequestLedger::AddAll(std::vector<std::unique_ptr<Sequence>> sequences) {
  int64_t tokens = 0;
  for (const auto& sequence : sequences) tokens += sequence->total_tokens();
  const TimePoint now = clock_.Now();
  absl::MutexLock lock(&mutex_);
  if (stop_at_.has_value()) return absl::UnavailableError("the server is shutting down");
  absl::Status room = admission_.CheckRoom(static_cast<int64_t>(sequences.size()), tokens);
  if (room.ok()) room = admission_.CheckDeadline(sequences, now);
  if (!room.ok()) return Refuse(std::move(room));
  const uint64_t group = sequences.front()->id().value();
  for (std::unique_ptr<Sequence>& sequence : sequences) {
    alive_.insert(sequence->id());
    admission_.Push(std::move(sequence), group, now);
  }
  NoteWaiting();
  woken_ = true;
  return absl::OkStatus();
}

void RequestLedger::Cancel(SequenceId id) {
  absl::MutexLock lock(&mutex_);
  if (!alive_.contains(id)) return;
  if (admission_.Waits(id)) {
    cancelled_waiting_.push_back(id);
    NoteWaiting();
  } else {
    cancelled_.insert(id);
    if (!in_step_.empty()) LookAt(TimePoint::min());
  }
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
  if (!in_step_.empty()) LookAt(*stop_at_);
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

bool RequestLedger::LookIsDue() const {
  const TimePoint look_at = std::min(look_at_.load(std::memory_order_acquire),
                                     waiting_over_at_.load(std::memory_order_acquire));
  return look_at != TimePoint::max() && clock_.Now() >= look_at;
}

EngineLoad RequestLedger::load() const {
  absl::MutexLock lock(&mutex_);
  EngineLoad load;
  load.queued = admission_.size();
  load.running = static_cast<int>(alive_.size()) - load.queued;
  return load;
}

QueueReport RequestLedger::queue() const {
  absl::MutexLock lock(&mutex_);
  return {admission_.tokens(), refused_};
}

Duration RequestLedger::RetryAfter() const {
  const TimePoint now = clock_.Now();
  absl::MutexLock lock(&mutex_);
  return admission_.RetryAfter(now);
}

bool RequestLedger::Wait(Duration at_most) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&woken_), absl::FromChrono(at_most));
  woken_ = false;
  return std::exchange(cluster_changed_, false);
}

bool RequestLedger::HasQueued() const {
  absl::MutexLock lock(&mutex_);
  return !admission_.empty();
}

std::vector<Sequence*> RequestLedger::PeekQueued(int count, TimePoint now) {
  absl::MutexLock lock(&mutex_);
  return admission_.Peek(count, now);
}

std::vector<std::unique_ptr<Sequence>> RequestLedger::Take(std::span<const SequenceId> ids,
                                                           TimePoint now) {
  absl::MutexLock lock(&mutex_);
  std::vector<std::unique_ptr<Sequence>> taken = admission_.Take(ids, now);
  // Cancelled since it was looked at: it runs, and ends as such.
  for (const SequenceId id : ids) {
    if (std::erase(cancelled_waiting_, id) > 0) cancelled_.insert(id);
  }
  NoteWaiting();
  return taken;
}

void RequestLedger::Return(std::unique_ptr<Sequence> sequence, FairOrder::ComesBack how,
                           TimePoint now) {
  absl::MutexLock lock(&mutex_);
  const SequenceId id = sequence->id();
  admission_.Return(std::move(sequence), how, now);
  if (cancelled_.erase(id) > 0) cancelled_waiting_.push_back(id);
  NoteWaiting();
}

std::optional<FairOrder::Standing> RequestLedger::NextInQueue(TimePoint now) {
  absl::MutexLock lock(&mutex_);
  const std::vector<SequenceId> next = admission_.order().Peek(1, now);
  if (next.empty()) return std::nullopt;
  return admission_.order().StandingOf(next.front());
}

std::vector<FairOrder::Standing> RequestLedger::StandingsOf(
    std::span<const SequenceId> ids) const {
  std::vector<FairOrder::Standing> standings;
  absl::MutexLock lock(&mutex_);
  for (const SequenceId id : ids) standings.push_back(admission_.order().StandingOf(id));
  return standings;
}

void RequestLedger::StepRan(std::span<const Ran> ran, Duration took, int prefill_tokens,
                            int most_new_tokens) {
  absl::MutexLock lock(&mutex_);
  for (const Ran& each : ran) admission_.order().Ran(each.id, each.tokens, each.prefilled);
  admission_.estimate().StepRan(took, prefill_tokens, most_new_tokens);
}

RequestLedger::Over RequestLedger::TakeWaitingOver(TimePoint now) {
  Over over;
  absl::MutexLock lock(&mutex_);
  for (const SequenceId id : std::exchange(cancelled_waiting_, {})) {
    std::unique_ptr<Sequence> sequence = admission_.Remove(id);
    if (sequence != nullptr) over.cancelled.push_back(std::move(sequence));
  }
  over.expired = admission_.TakeExpired(now);
  NoteWaiting();
  return over;
}

std::vector<std::unique_ptr<Sequence>> RequestLedger::TakeHopeless(
    std::span<const QueuedSequence> front, TimePoint now) {
  absl::MutexLock lock(&mutex_);
  std::vector<std::unique_ptr<Sequence>> hopeless = admission_.TakeHopeless(front, now);
  refused_.too_late += static_cast<int64_t>(hopeless.size());
  NoteWaiting();
  return hopeless;
}

std::vector<std::unique_ptr<Sequence>> RequestLedger::TakeIf(
    const std::function<bool(const Sequence&)>& condition) {
  absl::MutexLock lock(&mutex_);
  std::vector<std::unique_ptr<Sequence>> taken = admission_.TakeIf(condition);
  NoteWaiting();
  return taken;
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
  admission_.Ended(id);
  stopped_.erase(id);
}

void RequestLedger::BeginStep(std::span<const SequenceId> ids, TimePoint look_at) {
  absl::MutexLock lock(&mutex_);
  in_step_.insert(ids.begin(), ids.end());
  TimePoint first = std::min(look_at, stop_at_.value_or(TimePoint::max()));
  if (!cancelled_.empty()) first = TimePoint::min();
  look_at_.store(first, std::memory_order_release);
}

void RequestLedger::EndStep() {
  absl::MutexLock lock(&mutex_);
  in_step_.clear();
  look_at_.store(TimePoint::max(), std::memory_order_release);
}

void RequestLedger::LookAt(TimePoint moment) {
  if (moment < look_at_.load(std::memory_order_relaxed)) {
    look_at_.store(moment, std::memory_order_release);
  }
}

}  // namespace sheaf

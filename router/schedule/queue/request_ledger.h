#pragma once
// RequestLedger: what the clients' threads and the step thread share: which requests wait, which
// are alive, which of them are cancelled, when the engine shall stop, and whether somebody should
// be ended in the middle of a step.
//
// Look       while a step runs, one is due when any request has been cancelled, at the moment that
//            the step named, and when the engine shall stop: the step thread should see whose time
//            is over (step_in_flight.h).
// Threads    the first group of methods: any thread. The second: the step thread.
// Errors     AddAll, CheckRoom: kUnavailable (stopping); kResourceExhausted, kInvalidArgument
//            (Admission::CheckRoom); AddAll: kDeadlineExceeded (Admission::CheckDeadline). Counted.
// Cost       LookIsDue, WaitingIsOver: one load or two and the clock. Others as in fair_order.h,
//            O(log n) for a sequence; those with a condition O(queue). Nothing is built, copied or
//            destroyed under the lock that is large: a refusal is two comparisons.

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_set>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "router/schedule/engine_observer.h"
#include "router/schedule/queue/admission.h"
#include "router/schedule/plan/step_planner.h"
#include "router/schedule/step/sequence.h"

namespace sheaf {

class RequestLedger {
 public:
  RequestLedger(const Admission::Limits& limits, const Clock& clock);

  // A name for the next sequence.
  SequenceId NewId() { return SequenceId(next_id_.fetch_add(1, std::memory_order_relaxed)); }
  // All or none.
  absl::Status AddAll(std::vector<std::unique_ptr<Sequence>> sequences);
  // Whether AddAll would refuse so many for want of room: before they are made.
  absl::Status CheckRoom(int64_t count, int64_t tokens);
  // Ignored for a sequence that is not alive.
  void Cancel(SequenceId id);
  // The client was told the end already: the step thread ends the sequence at its next round. The
  // running step is not moot for that. Ignored for a sequence that is not alive.
  void StopStringFound(SequenceId id);
  // The earliest moment of all calls counts.
  void StopAt(TimePoint moment);
  // The cluster may have changed: wakes the step thread.
  void ClusterChanged();
  bool stopping() const;
  bool LookIsDue() const;
  EngineLoad load() const;  // queued and running alone
  QueueReport queue() const;
  Duration RetryAfter() const;
  const Admission::Limits& limits() const { return limits_; }

  // Of the step thread.

  // Sleeps until something of the first group happens, since the last call. True: the cluster
  // changed.
  bool Wait(Duration at_most);
  bool HasQueued() const;
  // At most `count` of the head of the queue, in order: the same sequences until this thread takes
  // them out.
  std::vector<Sequence*> PeekQueued(int count, TimePoint now);
  // Those become running; in this order.
  std::vector<std::unique_ptr<Sequence>> Take(std::span<const SequenceId> ids, TimePoint now);
  void Return(std::unique_ptr<Sequence> sequence, FairOrder::ComesBack how, TimePoint now);
  // Who is next in the queue, and where those that run stand beside it; null: nobody waits.
  std::optional<FairOrder::Standing> NextInQueue(TimePoint now);
  std::vector<FairOrder::Standing> StandingsOf(std::span<const SequenceId> ids) const;
  // What a step did.
  struct Ran {
    SequenceId id;
    int tokens = 0;          // computed
    bool prefilled = false;  // all it had
  };
  void StepRan(std::span<const Ran> ran, Duration took, int prefill_tokens, int most_new_tokens);

  // Whether somebody who waits is cancelled or past its deadline.
  bool WaitingIsOver(TimePoint now) const {
    return waiting_over_at_.load(std::memory_order_acquire) <= now;
  }
  struct Over {
    std::vector<std::unique_ptr<Sequence>> cancelled, expired;
  };
  Over TakeWaitingOver(TimePoint now);
  // Of the head of the queue as the plan sees it, those that would surely end too late.
  std::vector<std::unique_ptr<Sequence>> TakeHopeless(std::span<const QueuedSequence> front,
                                                      TimePoint now);
  std::vector<std::unique_ptr<Sequence>> TakeIf(
      const std::function<bool(const Sequence&)>& condition);
  // Of those that run.
  std::unordered_set<SequenceId> TakeCancelled();
  std::unordered_set<SequenceId> TakeStopped();  // by a stop string
  std::optional<TimePoint> stop_at() const;
  void Ended(SequenceId id);

  // Between these two a look may be due; with these sequences computing, at `look_at` at the
  // latest.
  void BeginStep(std::span<const SequenceId> ids, TimePoint look_at);
  void EndStep();

 private:
  void LookAt(TimePoint moment) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Refuse(absl::Status room) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteWaiting() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Admission::Limits limits_;
  const Clock& clock_;
  std::atomic<uint64_t> next_id_{1};

  mutable absl::Mutex mutex_;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool cluster_changed_ ABSL_GUARDED_BY(mutex_) = false;
  Admission admission_ ABSL_GUARDED_BY(mutex_);
  std::unordered_set<SequenceId> alive_ ABSL_GUARDED_BY(mutex_);
  std::unordered_set<SequenceId> cancelled_ ABSL_GUARDED_BY(mutex_);  // of those alive that run
  std::unordered_set<SequenceId> stopped_ ABSL_GUARDED_BY(mutex_);    // of those alive
  std::vector<SequenceId> cancelled_waiting_ ABSL_GUARDED_BY(mutex_);  // waited then
  QueueRefusals refused_ ABSL_GUARDED_BY(mutex_);
  std::optional<TimePoint> stop_at_ ABSL_GUARDED_BY(mutex_);
  std::unordered_set<SequenceId> in_step_ ABSL_GUARDED_BY(mutex_);

  // When the first of those that wait is over; min: one is cancelled. Written under mutex_.
  std::atomic<TimePoint> waiting_over_at_{TimePoint::max()};
  // When a look is due for those that run; max: no step runs, or never. Written under mutex_.
  std::atomic<TimePoint> look_at_{TimePoint::max()};
};

}  // namespace sheaf

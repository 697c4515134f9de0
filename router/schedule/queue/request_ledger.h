#pragma once
// RequestLedger: what the clients' threads and the step thread share: which requests wait, which
// are alive, which of them are cancelled, when the engine shall stop, and whether the step that runs
// is still worth its time.
//
// Moot       a running step is moot when one of its sequences has been cancelled or is past its
//            deadline, or the engine shall stop now: whoever waits inside the step should give it
//            up, so that those can end.
// Threads    the first group of methods: any thread. The second: the step thread.
// Errors     AddAll: kUnavailable (stopping); kResourceExhausted, kInvalidArgument (Admission::CheckRoom).
// Cost       StepIsMoot: one load and the clock. Others O(1), those with a condition O(queue).

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
#include "router/schedule/queue/admission.h"
#include "router/schedule/plan/scheduler.h"
#include "router/schedule/step/sequence.h"

namespace sheaf {

class RequestLedger {
 public:
  RequestLedger(const Admission::Limits& limits, const Clock& clock);

  // A name for the next sequence.
  SequenceId NewId() { return SequenceId(next_id_.fetch_add(1, std::memory_order_relaxed)); }
  // All or none.
  absl::Status AddAll(std::vector<std::unique_ptr<Sequence>> sequences);
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
  bool StepIsMoot() const;
  EngineLoad load() const;  // queued and running alone
  Duration RetryAfter() const;
  const Admission::Limits& limits() const { return limits_; }

  // Of the step thread.

  // Sleeps until something of the first group happens, since the last call. True: the cluster
  // changed.
  bool Wait(Duration at_most);
  bool HasQueued() const;
  int num_queued() const;
  // At most `count` of the head of the queue, in order.
  std::vector<QueuedSequence> PeekQueued(int count) const;
  std::unique_ptr<Sequence> TakeFront(TimePoint now);
  std::vector<std::unique_ptr<Sequence>> TakeIf(
      const std::function<bool(const Sequence&)>& condition);
  void Return(std::unique_ptr<Sequence> preempted);
  std::unordered_set<SequenceId> TakeCancelled();
  std::unordered_set<SequenceId> TakeStopped();  // by a stop string
  std::optional<TimePoint> stop_at() const;
  void Ended(SequenceId id);

  // Between these two StepIsMoot speaks of these sequences.
  void BeginStep(std::span<const SequenceId> ids, TimePoint earliest_deadline);
  void EndStep();

 private:
  void RaiseMootAt(TimePoint moment) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Admission::Limits limits_;
  const Clock& clock_;
  std::atomic<uint64_t> next_id_{1};

  mutable absl::Mutex mutex_;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool cluster_changed_ ABSL_GUARDED_BY(mutex_) = false;
  Admission admission_ ABSL_GUARDED_BY(mutex_);
  std::unordered_set<SequenceId> alive_ ABSL_GUARDED_BY(mutex_);
  std::unordered_set<SequenceId> cancelled_ ABSL_GUARDED_BY(mutex_);  // of those alive
  std::unordered_set<SequenceId> stopped_ ABSL_GUARDED_BY(mutex_);    // likewise
  std::optional<TimePoint> stop_at_ ABSL_GUARDED_BY(mutex_);
  std::unordered_set<SequenceId> in_step_ ABSL_GUARDED_BY(mutex_);

  // When the running step becomes moot; max: no step runs, or never. Written under mutex_.
  std::atomic<TimePoint> moot_at_{TimePoint::max()};
};

}  // namespace sheaf

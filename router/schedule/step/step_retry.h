#pragma once
// StepRetry: when the next step may run, and how long nothing has gone on. A state machine over the
// cluster's state and the steps' outcomes; time comes in with every event.
//
// A step that is given up (exchange/expert_layer.h) is run again: the first time at once, because
// what it waited for may be back; then, when steps keep being given up although the cluster says
// that it is ready, after first_wait, doubled each time up to longest_wait. A cluster that is not
// ready is looked at every `poll`, and its return or a change of it ends any such wait.
//
// Stalled    since the beginning of the first step that was given up, or since the cluster was
//            first found not ready, whichever came first; until a step is done or nothing waits.
// Threads    one.

#include <optional>

#include "absl/status/status.h"
#include "base/clock.h"

namespace sheaf {

struct StepRetryOptions {
  Duration poll = std::chrono::milliseconds(20);
  Duration first_wait = std::chrono::milliseconds(20);
  Duration longest_wait = std::chrono::milliseconds(500);
};

class StepRetry {
 public:
  explicit StepRetry(const StepRetryOptions& options) : options_(options) {}

  // Whether a step may run now, given what the cluster says.
  bool MayStep(const absl::Status& cluster, TimePoint now);
  // Somebody came or went: whoever waits tries at once.
  void ClusterChanged() { not_before_ = TimePoint::min(); }

  // `moot`: given up because some of its sequences are over; that says nothing of the cluster.
  void StepGivenUp(const absl::Status& cause, bool moot, TimePoint began, TimePoint now);
  void StepDone();
  // Nothing waits for a step.
  void Idle() { StepDone(); }

  std::optional<TimePoint> stalled_since() const { return stalled_since_; }
  // Why nothing goes on; OK when not stalled.
  const absl::Status& cause() const { return cause_; }
  // How long to sleep at most before MayStep is asked again.
  Duration LookAgainIn(TimePoint now) const;

 private:
  void Stall(const absl::Status& cause, TimePoint since);

  const StepRetryOptions options_;
  std::optional<TimePoint> stalled_since_;
  absl::Status cause_;
  int given_up_ = 0;  // in a row, while the cluster said that it was ready
  TimePoint not_before_ = TimePoint::min();
};

}  // namespace sheaf

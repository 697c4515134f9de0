#pragma once
// AnswerTimes: how long each worker takes to answer, from its own recent times, and when an answer
// is therefore late.
//
// A dispatch's work is counted in units: bytes of expert weights dominate small batches, rows large
// ones (WorkOf). Each worker has a running mean and deviation of time per unit over a fixed cost.
//
//   Expected(w, work)    fixed cost + mean
//   LateAfter(w, work)   max(floor, fixed cost + max(mean + 4 deviations, 2 * mean)), where the
//                        second is at most 8 means of the others: what is usual for a sick one is
//                        late too
//
// One time counts as at most eight means, so that a single stall does not spoil the estimate; a
// time below half the mean counts four times as much, so that a worker that was slow comes back.
// A worker that nobody asked yet is expected to be as fast as the mean of the others.
//
// Threads    one at a time; time comes in. Pure.

#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"

namespace sheaf {

// Work of a dispatch: each expert's weights are read once, each pair is computed.
inline double WorkOf(int experts, int pairs) { return experts + 0.125 * pairs; }

struct AnswerTimesOptions {
  Duration late_floor = std::chrono::milliseconds(25);
  Duration late_unknown = std::chrono::milliseconds(500);  // while nobody has answered yet
  Duration fixed_cost = std::chrono::microseconds(30);     // of a trip, whatever its work
  double memory = 1.0 / 16;                                // weight of the newest time
};

class AnswerTimes {
 public:
  explicit AnswerTimes(AnswerTimesOptions options = {}) : options_(options) {}

  void Observe(WorkerId worker, double work, Duration took);
  // It has not answered for this long: at least that slow.
  void ObserveSilence(WorkerId worker, double work, Duration so_far);
  void Forget(WorkerId worker);  // another process has its id now

  Duration Expected(WorkerId worker, double work) const;
  Duration LateAfter(WorkerId worker, double work) const;
  // Seconds a unit, for balancing; the mean of the known ones for an unknown worker; 1 if none is.
  double SecondsPerUnit(WorkerId worker) const;
  bool Known(WorkerId worker) const { return Find(worker) != nullptr; }

 private:
  struct Times {
    bool known = false;
    double mean = 0;       // seconds a unit
    double deviation = 0;  // of that
  };
  const Times* Find(WorkerId worker) const;
  Times& At(WorkerId worker);
  double PerUnit(double work, Duration took) const;
  double MeanOfKnown() const;  // 0 = none
  double MeanOfOthers(WorkerId worker) const;

  AnswerTimesOptions options_;
  std::vector<Times> workers_;  // by id
};

}  // namespace sheaf

#pragma once
// AwakeTime: time during which the coordinator could have heard its workers. Leases are judged by
// it alone: a coordinator that was stopped, starved, or has messages it did not read yet, holds
// nobody for lost.
//
//   a tick that comes later than allowed counts as one that came in time
//   a tick with unread messages does not count at all
//
// Threads    one at a time; time comes in. Pure.

#include <algorithm>

#include "base/clock.h"

namespace sheaf {

class AwakeTime {
 public:
  // `longest_gap` between two ticks that counts in full.
  explicit AwakeTime(Duration longest_gap) : longest_gap_(longest_gap) {}

  void Tick(TimePoint now, bool unread) {
    if (started_ && !unread) elapsed_ += std::clamp(now - last_, Duration(0), longest_gap_);
    last_ = now;
    started_ = true;
  }
  // Since the first tick.
  Duration elapsed() const { return elapsed_; }

 private:
  const Duration longest_gap_;
  bool started_ = false;
  TimePoint last_;
  Duration elapsed_{0};
};

}  // namespace sheaf

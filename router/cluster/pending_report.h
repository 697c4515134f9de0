#pragma once
// PendingReport: what a router has to tell its coordinator, gathered until the next report is due:
// about once a second, and at once when a step waits for an expert or an answer was wrong.
//
// Threads    one at a time; time comes in. Pure.
// Bounds     wrong answers that wait; older ones go. Pairs that do not fit 32 bits stay at the
//            most.

#include <cstdint>
#include <map>
#include <optional>

#include "base/clock.h"
#include "sheaf/v1/pool.pb.h"

namespace sheaf {

class PendingReport {
 public:
  explicit PendingReport(Duration every) : every_(every) {}

  // Pairs and failures add up; links, orphans and times are as the newest says.
  void Add(const v1::RouterReport& report, TimePoint now);
  // When Take() gives something; nothing waits: none.
  std::optional<TimePoint> due() const { return due_; }
  // What waits, whole; call it when due.
  v1::RouterReport Take(TimePoint now);

 private:
  const Duration every_;
  v1::RouterReport pending_;
  std::map<int32_t, v1::LinkReport> links_;
  std::optional<TimePoint> due_;
  TimePoint last_sent_;
};

}  // namespace sheaf

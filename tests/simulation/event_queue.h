#pragma once
// EventQueue: simulated time. Events run in the order of their time, and of their making where
// times are the same: one seed, one history.
//
// Threads    one. Time moves only in RunUntil.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace sheaf::simulation {

class EventQueue {
 public:
  TimePoint now() const { return now_; }
  uint64_t events_run() const { return events_run_; }

  // A time that is over counts as now.
  void At(TimePoint when, std::function<void()> run) {
    heap_.push_back({std::max(when, now_), ++made_, std::move(run)});
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }
  void After(Duration delay, std::function<void()> run) { At(now_ + delay, std::move(run)); }

  void RunUntil(TimePoint end) {
    while (!heap_.empty() && heap_.front().when <= end) {
      std::pop_heap(heap_.begin(), heap_.end(), Later);
      Event event = std::move(heap_.back());
      heap_.pop_back();
      now_ = event.when;
      ++events_run_;
      event.run();
    }
    now_ = std::max(now_, end);
  }

 private:
  struct Event {
    TimePoint when;
    uint64_t order;
    std::function<void()> run;
  };
  static bool Later(const Event& a, const Event& b) {
    return a.when != b.when ? a.when > b.when : a.order > b.order;
  }

  // Not 0, which some take for "never".
  TimePoint now_{std::chrono::hours(1)};
  uint64_t made_ = 0;
  uint64_t events_run_ = 0;
  std::vector<Event> heap_;
};

}  // namespace sheaf::simulation

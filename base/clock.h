#pragma once
// Clock: steady time as a constructor parameter, so that tests advance it by hand.
//
// Threads: any. SteadyClock is stateless; ManualClock is guarded by an atomic.

#include <atomic>
#include <chrono>
#include <cstdint>

namespace sheaf {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint Now() const = 0;
};

class SteadyClock final : public Clock {
 public:
  TimePoint Now() const override { return std::chrono::steady_clock::now(); }
};

class ManualClock final : public Clock {
 public:
  TimePoint Now() const override { return TimePoint(Duration(ticks_.load())); }
  void Advance(Duration by) { ticks_.fetch_add(by.count()); }

 private:
  std::atomic<int64_t> ticks_{1};
};

}  // namespace sheaf

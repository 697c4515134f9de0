#pragma once
// PreparationQueue: in which order requests are prepared, and which of them at the same time.
//
// Order      by the time of coming + bytes / kBytesPerSecond: a short request passes a long one,
//            but only if it comes within bytes / kBytesPerSecond after it: none waits for ever.
// Large      tasks of more than `large_bytes`: at most `max_large` are out at a time, whatever else
//            waits, so that they never hold all threads.
// Threads    none of its own: its owner's lock guards it. Time is passed in.
// Cost       O(log n).

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "base/clock.h"

namespace sheaf {

class PreparationQueue {
 public:
  using Task = std::function<void()>;

  struct Options {
    size_t capacity = 1024;
    size_t large_bytes = size_t{256} << 10;
    int max_large = 1;  // >= 1
  };

  struct Taken {
    Task task;
    bool large = false;
  };

  static constexpr int64_t kBytesPerSecond = 1 << 20;

  explicit PreparationQueue(const Options& options) : options_(options) {}

  // False: full.
  bool Push(TimePoint now, size_t bytes, Task task) {
    if (small_.size() + large_.size() >= options_.capacity) return false;
    const std::chrono::microseconds cost(static_cast<int64_t>(bytes) * 1'000'000 /
                                         kBytesPerSecond);
    (bytes > options_.large_bytes ? large_ : small_).emplace(now + cost, std::move(task));
    return true;
  }

  // Nothing: nothing waits that may be taken now. Every large task that was taken is to be
  // returned.
  std::optional<Taken> Take() {
    const bool large_may = !large_.empty() && large_out_ < options_.max_large;
    if (small_.empty() && !large_may) return std::nullopt;
    const bool large =
        large_may && (small_.empty() || large_.begin()->first < small_.begin()->first);
    auto& tasks = large ? large_ : small_;
    Taken taken{std::move(tasks.begin()->second), large};
    tasks.erase(tasks.begin());
    large_out_ += large;
    return taken;
  }

  void Return(const Taken& taken) { large_out_ -= taken.large; }

 private:
  using Tasks = std::multimap<TimePoint, Task>;  // equal times: in order of coming

  const Options options_;
  Tasks small_;
  Tasks large_;
  int large_out_ = 0;
};

}  // namespace sheaf

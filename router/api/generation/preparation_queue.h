#pragma once
// PreparationQueue: in which order requests are prepared.
//
// Order      within a line by the time of coming + bytes / kBytesPerSecond: a short request passes
//            a long one, but only if it comes within bytes / kBytesPerSecond after it: none waits
//            for ever.
// Large      tasks of more than `large_bytes` wait in a line of their own, for threads of their
//            own.
// Threads    none of its own: its owner's lock guards it. Time is passed in.
// Cost       O(log n).

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "base/clock.h"

namespace sheaf {

class PreparationQueue {
 public:
  using Task = std::function<void()>;

  struct Options {
    size_t capacity = 1024;
    size_t large_bytes = size_t{256} << 10;
  };

  enum class Size { kSmall, kLarge };

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

  // Empty: none of that size waits.
  Task Take(Size size) {
    Tasks& tasks = size == Size::kLarge ? large_ : small_;
    if (tasks.empty()) return nullptr;
    Task task = std::move(tasks.begin()->second);
    tasks.erase(tasks.begin());
    return task;
  }

 private:
  using Tasks = std::multimap<TimePoint, Task>;  // equal times: in order of coming

  const Options options_;
  Tasks small_;
  Tasks large_;
};

}  // namespace sheaf

#pragma once
// BoundedQueue<T>: many producers, many consumers, a fixed capacity, deadlines on every wait.
//
// Threads    all methods, any thread.
// Ownership  elements are moved in and out.
// Errors     TryPush returns false when full or closed; PopUntil returns nothing at the deadline,
//            or when the queue is closed and drained (closed() tells which).

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace sheaf {

template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  bool TryPush(T value) {
    {
      absl::MutexLock lock(&mutex_);
      if (closed_ || items_.size() >= capacity_) return false;
      items_.push_back(std::move(value));
    }
    ready_.Signal();
    return true;
  }

  std::optional<T> PopUntil(std::chrono::steady_clock::time_point deadline) {
    absl::MutexLock lock(&mutex_);
    while (!closed_ && items_.empty()) {
      const auto now = std::chrono::steady_clock::now();
      if (now >= deadline) break;
      ready_.WaitWithTimeout(&mutex_, absl::FromChrono(std::min<std::chrono::nanoseconds>(
                                          deadline - now, kLongestWait)));
    }
    if (items_.empty()) return std::nullopt;
    T value = std::move(items_.front());
    items_.pop_front();
    return value;
  }

  std::optional<T> TryPop() { return PopUntil(std::chrono::steady_clock::time_point::min()); }

  // No more pushes; waiting consumers wake, what is queued can still be popped.
  void Close() {
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
    }
    ready_.SignalAll();
  }

  bool closed() const {
    absl::MutexLock lock(&mutex_);
    return closed_;
  }

  size_t size() const {
    absl::MutexLock lock(&mutex_);
    return items_.size();
  }

  size_t capacity() const { return capacity_; }

 private:
  // Abseil's waits go by the clock of the wall, which may be set: no single one is long.
  static constexpr std::chrono::seconds kLongestWait{1};

  const size_t capacity_;

  mutable absl::Mutex mutex_;
  absl::CondVar ready_;
  std::deque<T> items_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sheaf

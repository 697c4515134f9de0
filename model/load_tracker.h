#pragma once
// LoadTracker: what parallel loading threads report, put together: bytes done, and the first error.
//
// Threads    every method from any thread; the progress callback runs serialised.

#include <atomic>
#include <cstddef>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "model/expert_slice.h"

namespace sheaf {

class LoadTracker {
 public:
  LoadTracker(size_t total_bytes, LoadProgress progress)
      : total_bytes_(total_bytes), progress_(std::move(progress)) {}

  void Done(size_t bytes) {
    const std::lock_guard lock(mutex_);
    done_bytes_ += bytes;
    if (progress_) progress_(done_bytes_, total_bytes_);
  }

  // Keeps the error of the lowest item, so that a broken file gives the same message more often
  // than not.
  void Fail(size_t item, absl::Status status) {
    const std::lock_guard lock(mutex_);
    if (status_.ok() || item < failed_item_) {
      status_ = std::move(status);
      failed_item_ = item;
    }
    failed_.store(true, std::memory_order_relaxed);
  }

  // Threads skip what is left once loading cannot succeed.
  bool failed() const { return failed_.load(std::memory_order_relaxed); }

  absl::Status status() const {
    const std::lock_guard lock(mutex_);
    return status_;
  }

 private:
  const size_t total_bytes_;
  const LoadProgress progress_;
  mutable std::mutex mutex_;
  size_t done_bytes_ = 0;
  size_t failed_item_ = 0;
  absl::Status status_;
  std::atomic<bool> failed_{false};
};

}  // namespace sheaf

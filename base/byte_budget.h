#pragma once
// ByteBudget: how many bytes of clients' requests may be in memory at a time, over all connections.
//
// Lease      what one request has taken; given back when the lease ends. It grows as the request
//            does.
// Reserve    a lease of more than `small_bytes` leaves `reserve_bytes` to smaller ones, so that a
//            few large requests cannot shut out all others.
// Threads    any, but one at a time for a lease.
// Ownership  the budget outlives its leases.
// Errors     TryTake and TryGrow say no at once; nothing waits.

#include <cstddef>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace sheaf {

class ByteBudget {
 public:
  struct Options {
    size_t total_bytes;
    size_t reserve_bytes;  // < total_bytes
    size_t small_bytes;
  };

  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Lease() {
      if (budget_ != nullptr) budget_->Return(bytes_);
    }

    size_t bytes() const { return bytes_; }
    // To `bytes` in all; no less than it has.
    bool TryGrowTo(size_t bytes) {
      if (bytes <= bytes_ || budget_ == nullptr) return true;
      if (!budget_->TryAdd(bytes_, bytes)) return false;
      bytes_ = bytes;
      return true;
    }

   private:
    friend class ByteBudget;
    explicit Lease(ByteBudget* budget) : budget_(budget) {}

    ByteBudget* budget_ = nullptr;  // null: a lease of nothing, which may grow freely
    size_t bytes_ = 0;
  };

  explicit ByteBudget(const Options& options) : options_(options) {}
  ByteBudget(const ByteBudget&) = delete;
  ByteBudget& operator=(const ByteBudget&) = delete;

  // Nothing: there is no room now.
  std::optional<Lease> TryTake(size_t bytes) {
    Lease lease(this);
    if (!lease.TryGrowTo(bytes)) return std::nullopt;
    return lease;
  }

  // The largest lease that there can ever be.
  size_t max_lease_bytes() const { return options_.total_bytes - options_.reserve_bytes; }
  size_t used_bytes() const {
    absl::MutexLock lock(&mutex_);
    return used_;
  }

 private:
  bool TryAdd(size_t before, size_t after) {
    const size_t limit =
        after <= options_.small_bytes ? options_.total_bytes : max_lease_bytes();
    const size_t more = after - before;
    absl::MutexLock lock(&mutex_);
    if (more > limit || used_ > limit - more) return false;
    used_ += more;
    return true;
  }
  void Return(size_t bytes) {
    absl::MutexLock lock(&mutex_);
    used_ -= bytes;
  }

  const Options options_;
  mutable absl::Mutex mutex_;
  size_t used_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sheaf

#pragma once
// ClusterGate: whether the experts are there, and whether they ever were. A router that never had
// them refuses requests; one that lost them for a while takes requests and lets them wait.
//
// Threads    any; `ready` (empty: always ready) is called on the caller's thread and must be quick.

#include <atomic>
#include <functional>
#include <utility>

#include "absl/status/status.h"

namespace sheaf {

class ClusterGate {
 public:
  explicit ClusterGate(std::function<absl::Status()> ready) : ready_(std::move(ready)) {}

  // OK: a step may run now; else why not.
  absl::Status Look() const {
    if (!ready_) return absl::OkStatus();
    absl::Status status = ready_();
    if (status.ok()) was_ready_.store(true, std::memory_order_relaxed);
    return status;
  }

  // OK: requests are taken: now is a good moment, or an earlier one was.
  absl::Status LookForSubmit() const {
    absl::Status status = Look();
    if (was_ready_.load(std::memory_order_relaxed)) return absl::OkStatus();
    return status;
  }

 private:
  const std::function<absl::Status()> ready_;
  mutable std::atomic<bool> was_ready_{false};
};

}  // namespace sheaf

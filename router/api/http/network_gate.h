#pragma once
// NetworkGate: the way from other threads (step results, prepared replies) into a server's network
// loop, and out of the loop into its routes; shut before either ends.
//
// Threads    any.

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace sheaf {

class NetworkGate {
 public:
  // Runs `step` while the loop is certain to exist; or not at all. It must not block.
  template <typename Step>
  void IfOpen(Step&& step) {
    absl::MutexLock lock(&mutex_);
    if (open_) step();
  }

  // Runs `handler`, for as long as it takes, while the routes are certain to exist; or not at all.
  template <typename Handler>
  void Handle(Handler&& handler) {
    {
      absl::MutexLock lock(&mutex_);
      if (!open_) return;
      ++handling_;
    }
    handler();
    absl::MutexLock lock(&mutex_);
    if (--handling_ == 0) idle_.SignalAll();
  }

  // Nothing begins afterwards, and what was handled is done.
  void Shut() {
    absl::MutexLock lock(&mutex_);
    open_ = false;
    while (handling_ > 0) idle_.Wait(&mutex_);
  }

 private:
  absl::Mutex mutex_;
  absl::CondVar idle_;
  bool open_ ABSL_GUARDED_BY(mutex_) = true;
  int handling_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sheaf

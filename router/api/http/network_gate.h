#pragma once
// NetworkGate: the way from other threads (step results, prepared replies) into a server's network
// loop, and out of the loop into its routes; shut before either ends.
//
// Threads    any.

#include <condition_variable>
#include <mutex>

namespace sheaf {

class NetworkGate {
 public:
  // Runs `step` while the loop is certain to exist; or not at all. It must not block.
  template <typename Step>
  void IfOpen(Step&& step) {
    std::lock_guard lock(mutex_);
    if (open_) step();
  }

  // Runs `handler`, for as long as it takes, while the routes are certain to exist; or not at all.
  template <typename Handler>
  void Handle(Handler&& handler) {
    {
      std::lock_guard lock(mutex_);
      if (!open_) return;
      ++handling_;
    }
    handler();
    std::lock_guard lock(mutex_);
    if (--handling_ == 0) idle_.notify_all();
  }

  // Nothing begins afterwards, and what was handled is done.
  void Shut() {
    std::unique_lock lock(mutex_);
    open_ = false;
    idle_.wait(lock, [this] { return handling_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable idle_;
  bool open_ = true;  // guarded by mutex_
  int handling_ = 0;  // guarded by mutex_
};

}  // namespace sheaf

#include "router/api/generation/wake_queue.h"

#include <utility>

namespace sheaf {

WakeQueue::WakeQueue() : thread_([this] { Run(); }) {}

WakeQueue::~WakeQueue() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void WakeQueue::Push(std::shared_ptr<Wakeable> wakeable) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    queue_.push_back(std::move(wakeable));
    if (queue_.size() > 1) return;  // the thread is awake or has been told
  }
  changed_.notify_one();
}

void WakeQueue::Run() {
  std::deque<std::shared_ptr<Wakeable>> batch;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      batch.swap(queue_);
    }
    for (const std::shared_ptr<Wakeable>& wakeable : batch) wakeable->OnWake();
    batch.clear();
  }
}

}  // namespace sheaf

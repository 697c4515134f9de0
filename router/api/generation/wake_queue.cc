#include "router/api/generation/wake_queue.h"

#include <pthread.h>

#include <utility>

namespace sheaf {

WakeQueue::WakeQueue()
    : thread_([this] {
        pthread_setname_np(pthread_self(), "sheaf-wake");
        Run();
      }) {}

WakeQueue::~WakeQueue() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.Signal();
  thread_.join();
}

void WakeQueue::Push(std::shared_ptr<Wakeable> wakeable) {
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return;
    queue_.push_back(std::move(wakeable));
    if (queue_.size() > 1) return;  // the thread is awake or has been told
  }
  changed_.Signal();
}

void WakeQueue::Run() {
  std::deque<std::shared_ptr<Wakeable>> batch;
  for (;;) {
    {
      absl::MutexLock lock(&mutex_);
      while (!stopping_ && queue_.empty()) changed_.Wait(&mutex_);
      if (stopping_) return;
      batch.swap(queue_);
    }
    for (const std::shared_ptr<Wakeable>& wakeable : batch) wakeable->OnWake();
    batch.clear();
  }
}

}  // namespace sheaf

#include "router/api/generation/preparation_pool.h"

#include <chrono>
#include <utility>

namespace sheaf {

PreparationPool::PreparationPool(int num_threads, size_t capacity) : tasks_(capacity) {
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Run(); });
}

PreparationPool::~PreparationPool() {
  stopping_ = true;
  tasks_.Close();
  for (std::thread& thread : threads_) thread.join();
}

void PreparationPool::Run() {
  while (!stopping_) {
    // The deadline only bounds the wait: Close() ends it at once.
    auto task = tasks_.PopUntil(std::chrono::steady_clock::now() + std::chrono::seconds(60));
    if (task) {
      if (!stopping_) (*task)();
    } else if (tasks_.closed()) {
      return;
    }
  }
}

}  // namespace sheaf

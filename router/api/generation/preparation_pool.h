#pragma once
// PreparationPool runs what a request needs before the engine takes it (parsing, chat template,
// tokenizing) on a few threads of its own, so that a large prompt never holds up a network thread,
// a stream or a health check.
//
// Threads    TrySubmit: any thread. Tasks must not throw.
// Bounds     `capacity` waiting tasks; beyond that TrySubmit says no and the request is refused.
// Ownership  the destructor runs no further task: it waits for the running ones and drops the rest.

#include <atomic>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"

namespace sheaf {

class PreparationPool {
 public:
  PreparationPool(int num_threads, size_t capacity);
  ~PreparationPool();
  PreparationPool(const PreparationPool&) = delete;
  PreparationPool& operator=(const PreparationPool&) = delete;

  bool TrySubmit(std::function<void()> task) { return tasks_.TryPush(std::move(task)); }

 private:
  void Run();

  BoundedQueue<std::function<void()>> tasks_;
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace sheaf

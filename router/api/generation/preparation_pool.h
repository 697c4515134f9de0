#pragma once
// PreparationPool runs what a request needs before the engine takes it (parsing, chat template,
// tokenizing, compiling a grammar) on a few threads of its own, so that a large prompt never holds
// up a network thread, a stream or a health check.
//
// Lanes      A grammar may take a second. Guided requests have one thread of their own, which does
//            nothing else and gives way to other threads, so whatever they bring, ordinary
//            requests never wait behind them.
// Threads    TrySubmit: any thread, a task's own included. Tasks must not throw.
// Bounds     of waiting tasks, each lane its own; beyond that TrySubmit says no and the request is
//            refused.
// Ownership  the destructor runs no further task: it waits for the running ones and drops the rest.

#include <atomic>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"

namespace sheaf {

enum class PreparationLane { kOrdinary, kGuided };

struct PreparationPoolOptions {
  int ordinary_threads = 2;
  size_t ordinary_capacity = 1024;
  size_t guided_capacity = 64;  // about a minute of grammars at their bound
};

class PreparationPool {
 public:
  explicit PreparationPool(const PreparationPoolOptions& options);
  ~PreparationPool();
  PreparationPool(const PreparationPool&) = delete;
  PreparationPool& operator=(const PreparationPool&) = delete;

  bool TrySubmit(PreparationLane lane, std::function<void()> task);

 private:
  using Tasks = BoundedQueue<std::function<void()>>;

  void Run(Tasks& tasks);

  Tasks ordinary_;
  Tasks guided_;
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace sheaf

#pragma once
// PreparationPool runs what a request needs before the engine takes it (parsing, chat template,
// tokenizing, compiling a grammar) on a few threads of its own, so that a large prompt never holds
// up a network thread, a stream or a health check.
//
// Lanes      A grammar may take a second. Guided requests have one thread of their own, which does
//            nothing else and gives way to other threads, so whatever they bring, ordinary
//            requests never wait behind them. Ordinary ones go by cost (preparation_queue.h): short
//            ones first; large ones have a thread of their own, which gives way, too.
// Memory     half a second after a large task what the allocator kept goes back to the system.
// Threads    TrySubmit: any thread, a task's own included. Tasks must not throw.
// Bounds     of waiting tasks, each lane its own; beyond that TrySubmit says no and the request is
//            refused. Their bytes are bounded by whoever lets requests in (byte_budget.h).
// Ownership  the destructor runs no further task: it waits for the running ones and drops the rest.

#include <atomic>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/bounded_queue.h"
#include "router/api/generation/preparation_queue.h"

namespace sheaf {

enum class PreparationLane { kOrdinary, kGuided };

struct PreparationPoolOptions {
  int ordinary_threads = 2;  // besides one for the large ones
  size_t ordinary_capacity = 1024;
  size_t guided_capacity = 64;  // about a minute of grammars at their bound
  size_t large_bytes = size_t{256} << 10;
};

class PreparationPool {
 public:
  explicit PreparationPool(const PreparationPoolOptions& options);
  ~PreparationPool();
  PreparationPool(const PreparationPool&) = delete;
  PreparationPool& operator=(const PreparationPool&) = delete;

  // `bytes`: of the request, which say what its preparation costs.
  bool TrySubmit(PreparationLane lane, std::function<void()> task, size_t bytes = 0);
  // A request of so many bytes is about to be freed elsewhere (gRPC keeps a message until its call
  // is over): where it was large, memory is given back a little later.
  void WillBeFreed(size_t bytes);

 private:
  void RunOrdinary(PreparationQueue::Size size);
  void RunGuided();
  void TrimSoon();

  const size_t large_bytes_;
  std::atomic<bool> stopping_{false};
  absl::Mutex mutex_;
  absl::CondVar changed_;
  PreparationQueue ordinary_ ABSL_GUARDED_BY(mutex_);
  absl::Time trim_at_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  BoundedQueue<std::function<void()>> guided_;
  std::vector<std::thread> threads_;
};

}  // namespace sheaf

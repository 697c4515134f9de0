#pragma once
// ThreadPool runs one data-parallel loop at a time on a fixed set of threads, the caller among
// them.
//
// A model step is hundreds of short loops. Waking a sleeping thread costs tens of microseconds, so
// after a loop the pool's threads keep spinning for the next one; Park() sends them to sleep at
// once, and the owner calls it before it waits for something else (the exchange, the next request),
// because on a machine with more runnable threads than cores a spinner holds the core that the
// awaited peer needs.
//
// Work distribution is dynamic (an atomic cursor): results must not depend on which thread runs an
// item.
//
// Threads    ParallelFor and Park: one owner thread at a time. `body` must not throw nor call the
//            pool.
// Ownership  `body` is borrowed for the duration of the call.
// Cost       about 1 us a loop while the threads spin; a futex wake-up after Park() or spin_limit.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace sheaf {

class ThreadPool {
 public:
  // num_threads counts the caller: 1 means no extra thread. Spinning ends after spin_limit without
  // work.
  explicit ThreadPool(int num_threads,
                      std::chrono::microseconds spin_limit = std::chrono::microseconds(200));
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls body(item, thread) for every item in [0, num_items), thread in [0, num_threads());
  // returns when all are done.
  template <typename Body>
  void ParallelFor(int64_t num_items, const Body& body) {
    if (num_items <= 0) return;
    if (threads_.empty() || num_items == 1) {
      for (int64_t item = 0; item < num_items; ++item) body(item, 0);
      return;
    }
    Run(
        num_items,
        [](const void* context, int64_t item, int thread) {
          (*static_cast<const Body*>(context))(item, thread);
        },
        &body);
  }

  // The pool's threads stop spinning and sleep until the next loop.
  void Park();

 private:
  using Function = void (*)(const void* context, int64_t item, int thread);

  void Run(int64_t num_items, Function function, const void* context);
  void WorkerLoop(int thread);
  void DrainItems(int thread);

  const std::chrono::microseconds spin_limit_;
  std::vector<std::thread> threads_;

  // One loop. Written by the owner before generation_ is raised (release), read by threads after
  // (acquire).
  Function function_ = nullptr;
  const void* context_ = nullptr;
  int64_t num_items_ = 0;
  alignas(64) std::atomic<int64_t> cursor_{0};
  alignas(64) std::atomic<uint64_t> generation_{0};
  alignas(64) std::atomic<int> threads_inside_{
      0};  // pool threads not yet done with this generation
  alignas(64) std::atomic<bool> parked_{false};
  std::atomic<bool> stopping_{false};

  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleepers_{0};
};

}  // namespace sheaf

#include "base/thread_pool.h"

#include <algorithm>

namespace sheaf {
namespace {

inline void CpuRelax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads, std::chrono::microseconds spin_limit)
    : spin_limit_(spin_limit) {
  for (int thread = 1; thread < std::max(1, num_threads); ++thread) {
    threads_.emplace_back([this, thread] { WorkerLoop(thread); });
    pthread_setname_np(threads_.back().native_handle(), "sheaf-compute");
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_.store(true);
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Park() { parked_.store(true, std::memory_order_relaxed); }

void ThreadPool::DrainItems(int thread) {
  const int64_t num_items = num_items_;
  for (;;) {
    const int64_t item = cursor_.fetch_add(1, std::memory_order_relaxed);
    if (item >= num_items) return;
    function_(context_, item, thread);
  }
}

void ThreadPool::Run(int64_t num_items, Function function, const void* context) {
  function_ = function;
  context_ = context;
  num_items_ = num_items;
  cursor_.store(0, std::memory_order_relaxed);
  threads_inside_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
  parked_.store(false, std::memory_order_relaxed);
  // seq_cst pairs with the sleeper's: either it sees the new generation, or we see it asleep.
  generation_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  DrainItems(0);
  // Every pool thread reports, also one that found no item left: after this nobody reads context.
  for (int spins = 0; threads_inside_.load(std::memory_order_acquire) != 0; ++spins) {
    CpuRelax();
    // Oversubscribed cores: let the thread that still holds an item run.
    if (spins > 2000) std::this_thread::yield();
  }
}

void ThreadPool::WorkerLoop(int thread) {
  uint64_t seen = 0;
  for (;;) {
    auto idle_since = std::chrono::steady_clock::now();
    int spins = 0;
    while (generation_.load(std::memory_order_acquire) == seen) {
      if (stopping_.load(std::memory_order_relaxed)) return;
      const bool tired =
          (++spins % 64 == 0) && std::chrono::steady_clock::now() - idle_since > spin_limit_;
      if (!tired && !parked_.load(std::memory_order_relaxed)) {
        CpuRelax();
        continue;
      }
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] {
        return stopping_.load() || generation_.load(std::memory_order_seq_cst) != seen;
      });
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }
    seen = generation_.load(std::memory_order_acquire);
    DrainItems(thread);
    threads_inside_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace sheaf

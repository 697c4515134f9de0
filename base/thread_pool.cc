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

void ThreadPool::SetLookout(Lookout* lookout) {
  lookout_ = lookout;
  cut_ = false;
}

void ThreadPool::DrainItems(int thread) {
  const int64_t num_items = num_items_;
  for (;;) {
    const int64_t item = cursor_.fetch_add(1, std::memory_order_relaxed);
    if (item >= num_items) return;
    function_(context_, item, thread);
  }
}

void ThreadPool::Wake(int64_t num_threads) {
  const int64_t sleepers = sleepers_.load(std::memory_order_seq_cst);
  if (sleepers == 0) return;
  std::lock_guard lock(mutex_);
  if (num_threads >= sleepers) {
    wake_.notify_all();
  } else {
    for (int64_t i = 0; i < num_threads; ++i) wake_.notify_one();
  }
}

void ThreadPool::Run(int64_t num_items, Function function, const void* context, Lookout* lookout) {
  if (cut_) return;
  function_ = function;
  context_ = context;
  num_items_ = num_items;
  cursor_.store(0, std::memory_order_relaxed);
  parked_.store(false, std::memory_order_relaxed);
  const uint64_t last = loop_.load(std::memory_order_relaxed);
  // seq_cst pairs with the sleeper's: either it sees the new number, or we see it asleep.
  loop_.store((last & ~(kNumber - 1)) + kNumber + kOpen, std::memory_order_seq_cst);
  Wake(num_items - 1);
  if (lookout == nullptr) {
    DrainItems(0);
  } else {
    for (;;) {
      if (IsCut(lookout)) cursor_.store(num_items, std::memory_order_relaxed);
      const int64_t item = cursor_.fetch_add(1, std::memory_order_relaxed);
      if (item >= num_items) break;
      function(context, item, 0);
    }
  }
  uint64_t loop = loop_.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (int spins = 0; (loop & kInside) != 0; ++spins) {
    CpuRelax();
    // Oversubscribed cores: let the thread that still holds an item run.
    if (spins > 2000) {
      std::this_thread::yield();
      if (lookout != nullptr) IsCut(lookout);
    }
    loop = loop_.load(std::memory_order_acquire);
  }
}

// Into the loop whose number this becomes; false: it is closed already.
bool ThreadPool::Enter(uint64_t& number) {
  uint64_t loop = loop_.load(std::memory_order_relaxed);
  for (;;) {
    number = loop / kNumber;
    if ((loop & kOpen) == 0) return false;
    if (loop_.compare_exchange_weak(loop, loop + 1, std::memory_order_acquire,
                                    std::memory_order_relaxed)) {
      return true;
    }
  }
}

void ThreadPool::WaitForNumberPast(uint64_t number) {
  const auto is_past = [&](std::memory_order order) {
    return loop_.load(order) / kNumber != number;
  };
  const auto idle_since = std::chrono::steady_clock::now();
  int spins = 0;
  while (!is_past(std::memory_order_relaxed)) {
    if (stopping_.load(std::memory_order_relaxed)) return;
    const bool tired =
        (++spins % 64 == 0) && std::chrono::steady_clock::now() - idle_since > spin_limit_;
    if (!tired && !parked_.load(std::memory_order_relaxed)) {
      CpuRelax();
      continue;
    }
    std::unique_lock lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return stopping_.load() || is_past(std::memory_order_seq_cst); });
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }
}

void ThreadPool::WorkerLoop(int thread) {
  uint64_t seen = 0;
  for (;;) {
    WaitForNumberPast(seen);
    if (stopping_.load(std::memory_order_relaxed)) return;
    if (!Enter(seen)) continue;
    DrainItems(thread);
    loop_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace sheaf

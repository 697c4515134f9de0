#include "router/api/generation/preparation_pool.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace sheaf {
namespace {

// The steps of every running request use all cores: a grammar takes what they leave, and a large
// request a third of what a step's thread would.
constexpr int kGuidedNice = 10;
constexpr int kLargeNice = 5;

// Only this thread, on Linux. Failing costs nothing but the courtesy.
void GiveWay(int nice) { (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), nice); }

// glibc keeps what was freed, in an arena for each thread. By then the network threads, too, have
// let go of a large request.
constexpr absl::Duration kTrimDelay = absl::Milliseconds(500);

PreparationQueue::Options QueueOptions(const PreparationPoolOptions& options) {
  return {.capacity = options.ordinary_capacity,
          .large_bytes = options.large_bytes};
}

}  // namespace

PreparationPool::PreparationPool(const PreparationPoolOptions& options)
    : large_bytes_(options.large_bytes),
      ordinary_(QueueOptions(options)),
      guided_(options.guided_capacity) {
  for (int i = 0; i < options.ordinary_threads; ++i) {
    threads_.emplace_back([this] { RunOrdinary(PreparationQueue::Size::kSmall); });
  }
  threads_.emplace_back([this] {
    GiveWay(kLargeNice);
    RunOrdinary(PreparationQueue::Size::kLarge);
  });
  threads_.emplace_back([this] {
    GiveWay(kGuidedNice);
    RunGuided();
  });
}

PreparationPool::~PreparationPool() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.SignalAll();
  guided_.Close();
  for (std::thread& thread : threads_) thread.join();
}

bool PreparationPool::TrySubmit(PreparationLane lane, std::function<void()> task, size_t bytes) {
  if (lane == PreparationLane::kGuided) {
    if (bytes <= large_bytes_) return guided_.TryPush(std::move(task));
    return guided_.TryPush([this, task = std::move(task)]() mutable {
      task();
      task = nullptr;
      TrimSoon();
    });
  }
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_ || !ordinary_.Push(std::chrono::steady_clock::now(), bytes, std::move(task))) {
      return false;
    }
  }
  changed_.SignalAll();  // the threads are few, and not every one may take it
  return true;
}

void PreparationPool::WillBeFreed(size_t bytes) {
  if (bytes > large_bytes_) TrimSoon();
}

void PreparationPool::RunOrdinary(PreparationQueue::Size size) {
  const bool large = size == PreparationQueue::Size::kLarge;
  pthread_setname_np(pthread_self(), large ? "sheaf-large" : "sheaf-prepare");
  for (;;) {
    PreparationQueue::Task task;
    bool trim = false;
    {
      absl::MutexLock lock(&mutex_);
      while (!stopping_ && !trim && !(task = ordinary_.Take(size))) {
        if (!large || trim_at_ == absl::InfiniteFuture()) {
          changed_.Wait(&mutex_);
        } else if (changed_.WaitWithDeadline(&mutex_, trim_at_)) {
          trim = true;
          trim_at_ = absl::InfiniteFuture();
        }
      }
      if (stopping_) return;
    }
    if (trim) {
      malloc_trim(0);
      continue;
    }
    task();
    task = nullptr;
    if (large) TrimSoon();
  }
}

void PreparationPool::TrimSoon() {
  {
    absl::MutexLock lock(&mutex_);
    if (trim_at_ != absl::InfiniteFuture()) return;
    trim_at_ = absl::Now() + kTrimDelay;
  }
  changed_.SignalAll();
}

void PreparationPool::RunGuided() {
  pthread_setname_np(pthread_self(), "sheaf-grammar");
  while (!stopping_) {
    // The deadline only bounds the wait: Close() ends it at once.
    auto task = guided_.PopUntil(std::chrono::steady_clock::now() + std::chrono::seconds(60));
    if (task) {
      if (!stopping_) (*task)();
    } else if (guided_.closed()) {
      return;
    }
  }
}

}  // namespace sheaf

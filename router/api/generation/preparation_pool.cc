#include "router/api/generation/preparation_pool.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/time/time.h"

namespace sheaf {
namespace {

// The steps of every running request use all cores: a grammar takes what they leave.
constexpr int kGuidedNice = 10;

// Only this thread, on Linux. Failing costs nothing but the courtesy.
void GiveWay() { (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kGuidedNice); }

// When the network threads, too, have let go of a large request.
constexpr absl::Duration kLateTrim = absl::Milliseconds(500);

// glibc keeps what was freed, in an arena for each thread.
void GiveMemoryBack() { malloc_trim(0); }

PreparationQueue::Options QueueOptions(const PreparationPoolOptions& options) {
  return {.capacity = options.ordinary_capacity,
          .large_bytes = options.large_bytes,
          .max_large = std::max(options.ordinary_threads - 1, 1)};
}

}  // namespace

PreparationPool::PreparationPool(const PreparationPoolOptions& options)
    : large_bytes_(options.large_bytes),
      ordinary_(QueueOptions(options)),
      guided_(options.guided_capacity) {
  for (int i = 0; i < options.ordinary_threads; ++i) {
    threads_.emplace_back([this] { RunOrdinary(); });
  }
  threads_.emplace_back([this] {
    GiveWay();
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
      GiveMemoryBack();
      {
        absl::MutexLock lock(&mutex_);
        trim_due_ = true;
      }
      changed_.SignalAll();
    });
  }
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_ || !ordinary_.Push(std::chrono::steady_clock::now(), bytes, std::move(task))) {
      return false;
    }
  }
  changed_.Signal();
  return true;
}

void PreparationPool::WillBeFreed(size_t bytes) {
  if (bytes <= large_bytes_) return;
  {
    absl::MutexLock lock(&mutex_);
    trim_due_ = true;
  }
  changed_.SignalAll();
}

void PreparationPool::RunOrdinary() {
  pthread_setname_np(pthread_self(), "sheaf-prepare");
  for (;;) {
    std::optional<PreparationQueue::Taken> taken;
    bool late_trim = false;
    {
      absl::MutexLock lock(&mutex_);
      while (!stopping_ && !late_trim && !(taken = ordinary_.Take())) {
        if (!trim_due_) {
          changed_.Wait(&mutex_);
        } else if (changed_.WaitWithTimeout(&mutex_, kLateTrim)) {
          late_trim = std::exchange(trim_due_, false);
        }
      }
      if (stopping_) return;
    }
    if (late_trim) {
      GiveMemoryBack();
      continue;
    }
    taken->task();
    taken->task = nullptr;
    if (!taken->large) continue;
    GiveMemoryBack();
    {
      absl::MutexLock lock(&mutex_);
      ordinary_.Return(*taken);
      trim_due_ = true;
    }
    changed_.SignalAll();  // the next large one, and who waits without a limit
  }
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

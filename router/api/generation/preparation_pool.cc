#include "router/api/generation/preparation_pool.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <utility>

namespace sheaf {
namespace {

// The steps of every running request use all cores: a grammar takes what they leave.
constexpr int kGuidedNice = 10;

// Only this thread, on Linux. Failing costs nothing but the courtesy.
void GiveWay() { (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kGuidedNice); }

}  // namespace

PreparationPool::PreparationPool(const PreparationPoolOptions& options)
    : ordinary_(options.ordinary_capacity), guided_(options.guided_capacity) {
  for (int i = 0; i < options.ordinary_threads; ++i) {
    threads_.emplace_back([this] { Run(ordinary_); });
  }
  threads_.emplace_back([this] {
    GiveWay();
    Run(guided_);
  });
}

PreparationPool::~PreparationPool() {
  stopping_ = true;
  ordinary_.Close();
  guided_.Close();
  for (std::thread& thread : threads_) thread.join();
}

bool PreparationPool::TrySubmit(PreparationLane lane, std::function<void()> task) {
  return (lane == PreparationLane::kGuided ? guided_ : ordinary_).TryPush(std::move(task));
}

void PreparationPool::Run(Tasks& tasks) {
  pthread_setname_np(pthread_self(), "sheaf-prepare");
  while (!stopping_) {
    // The deadline only bounds the wait: Close() ends it at once.
    auto task = tasks.PopUntil(std::chrono::steady_clock::now() + std::chrono::seconds(60));
    if (task) {
      if (!stopping_) (*task)();
    } else if (tasks.closed()) {
      return;
    }
  }
}

}  // namespace sheaf

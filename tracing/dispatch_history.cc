#include "tracing/dispatch_history.h"

#include <algorithm>

namespace sheaf {
namespace {

void AddTo(std::vector<WorkerDispatches>& sums, const WorkerDispatches& more) {
  auto at = std::lower_bound(
      sums.begin(), sums.end(), more.worker,
      [](const WorkerDispatches& sum, WorkerId worker) { return sum.worker < worker; });
  if (at == sums.end() || at->worker != more.worker) at = sums.insert(at, {.worker = more.worker});
  at->answers += more.answers;
  at->pairs += more.pairs;
  at->seconds += more.seconds;
  at->longest_seconds = std::max(at->longest_seconds, more.longest_seconds);
}

}  // namespace

void DispatchHistory::Add(TimePoint begin, TimePoint end,
                          const std::vector<WorkerDispatches>& workers) {
  absl::MutexLock lock(&mutex_);
  if (steps_.size() < kSteps) {
    steps_.push_back({begin, end, workers});
    return;
  }
  Step& step = steps_[oldest_];
  oldest_ = (oldest_ + 1) % kSteps;
  step.begin = begin;
  step.end = end;
  step.workers.assign(workers.begin(), workers.end());
}

DispatchHistory::Window DispatchHistory::Sum(TimePoint begin, TimePoint end) const {
  Window window;
  absl::MutexLock lock(&mutex_);
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[(oldest_ + i) % steps_.size()];
    const TimePoint middle = step.begin + (step.end - step.begin) / 2;
    if (middle < begin) continue;
    if (middle >= end) break;
    if (window.steps++ == 0) window.begin = step.begin;
    window.end = step.end;
    for (const WorkerDispatches& worker : step.workers) AddTo(window.workers, worker);
  }
  return window;
}

}  // namespace sheaf

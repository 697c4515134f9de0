#pragma once
// An ExpertCompute of depth 2 over the CPU's kernels, as a device is: a batch that was submitted is
// computed when it is completed, and not before. The first Submit can be held up.
//
// Threads    DeepCompute: one. DeepWatch: any.

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "exchange/cpu_experts.h"
#include "tests/worker/test_experts.h"

namespace sheaf {

class DeepWatch {
 public:
  void Gate() {
    absl::MutexLock lock(&mutex_);
    gated_ = true;
  }
  void Open() {
    absl::MutexLock lock(&mutex_);
    gated_ = false;
  }
  bool WaitForSubmitted(int batches) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return submitted_ >= batches;
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), kTestPatience);
  }
  void FailNext(absl::Status why) {
    absl::MutexLock lock(&mutex_);
    failure_ = std::move(why);
  }
  int most_under_way() {
    absl::MutexLock lock(&mutex_);
    return most_under_way_;
  }

  void Submitted(size_t under_way) {
    absl::MutexLock lock(&mutex_);
    ++submitted_;
    most_under_way_ = std::max(most_under_way_, static_cast<int>(under_way));
    const auto open = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !gated_; };
    mutex_.AwaitWithTimeout(absl::Condition(&open), kTestPatience);
  }
  absl::Status TakeFailure() {
    absl::MutexLock lock(&mutex_);
    return std::exchange(failure_, absl::OkStatus());
  }

 private:
  absl::Mutex mutex_;
  bool gated_ ABSL_GUARDED_BY(mutex_) = false;
  int submitted_ ABSL_GUARDED_BY(mutex_) = 0;
  int most_under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

class DeepCompute final : public ExpertCompute {
 public:
  DeepCompute(ThreadPool& pool, DeepWatch& watch) : cpu_(pool), watch_(watch) {}
  int depth() const override { return 2; }
  absl::Status Submit(const ExpertBatch& batch) override {
    batches_.push_back(batch);
    watch_.Submitted(batches_.size());
    return absl::OkStatus();
  }
  absl::Status Complete(float* out) override {
    const ExpertBatch batch = batches_.front();
    batches_.pop_front();
    if (absl::Status failure = watch_.TakeFailure(); !failure.ok()) return failure;
    cpu_.Submit(batch).IgnoreError();
    return cpu_.Complete(out);
  }
  void Abandon() override { batches_.pop_front(); }

 private:
  CpuExpertCompute cpu_;
  DeepWatch& watch_;
  std::deque<ExpertBatch> batches_;
};

}  // namespace sheaf

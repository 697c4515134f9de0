#pragma once
// An ExpertEngine for tests: small random experts, with every load under the test's control.
//
// Threads    any.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "exchange/model_identity.h"
#include "tests/exchange/random_experts.h"
#include "worker/engine/expert_engine.h"

namespace sheaf {

inline constexpr int kTestLayers = 3, kTestFirstMoe = 1, kTestExperts = 8, kTestHidden = 128;
inline constexpr size_t kTestExpertBytes = 1000;
inline constexpr absl::Duration kTestPatience = absl::Seconds(20);

inline ModelIdentity TestModel() {
  return {0x1122334455667788, kTestLayers, kTestFirstMoe, kTestExperts, kTestHidden, "test"};
}

inline LayerExpert Pair(int layer, int expert) { return {LayerId(layer), ExpertId(expert)}; }

// Experts [begin, end) of a layer.
inline std::vector<LayerExpert> Pairs(int layer, int begin, int end) {
  std::vector<LayerExpert> pairs;
  for (int expert = begin; expert < end; ++expert) pairs.push_back(Pair(layer, expert));
  return pairs;
}

class TestExperts final : public ExpertEngine {
 public:
  explicit TestExperts(uint64_t seed, int num_lanes = 1)
      : weights_(seed, kTestLayers, kTestExperts, kTestHidden, 128), num_lanes_(num_lanes) {}

  absl::StatusOr<HeldExpertPtr> Load(const LayerExpert& pair, int) override {
    absl::MutexLock lock(&mutex_);
    loads_.push_back(pair);
    if (gated_) {
      mutex_.Await(absl::Condition(
          +[](TestExperts* self) ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mutex_) {
            return !self->gated_ || self->allowed_ > 0;
          },
          this));
      if (gated_) --allowed_;
    }
    if (const auto failure = failures_.find(pair); failure != failures_.end())
      return failure->second;
    most_resident_ = std::max(most_resident_, resident_ += kTestExpertBytes);
    return std::make_shared<const Expert>(*this, *weights_.weights(pair.layer, pair.expert));
  }
  int lanes() const override { return num_lanes_; }
  size_t expert_bytes() const override { return kTestExpertBytes; }
  uint64_t expert_file_bytes() const override { return kTestExpertBytes; }
  uint64_t memory_bytes() const override { return memory_bytes_; }
  std::unique_ptr<ExpertCompute> NewCompute(ThreadPool& pool) override {
    return std::make_unique<CpuExpertCompute>(pool);
  }
  void WatchForLoss(OnLost on_lost) override {
    absl::MutexLock lock(&mutex_);
    on_lost_ = std::move(on_lost);
  }

  // Before a HoldingLoader is made.
  void SetMemory(uint64_t bytes) { memory_bytes_ = bytes; }
  void Lose(const absl::Status& why) {
    absl::MutexLock lock(&mutex_);
    if (on_lost_) on_lost_(why);
  }
  // For an ExpertStore.
  NewExpertCompute new_compute() {
    return [this](ThreadPool& pool) { return NewCompute(pool); };
  }

  // From now on loads wait, each for one Allow.
  void Gate() {
    absl::MutexLock lock(&mutex_);
    gated_ = true;
  }
  void Allow(int loads) {
    absl::MutexLock lock(&mutex_);
    allowed_ += loads;
  }
  void Open() {
    absl::MutexLock lock(&mutex_);
    gated_ = false;
  }
  void FailWith(const LayerExpert& pair, absl::Status status) {
    absl::MutexLock lock(&mutex_);
    failures_[pair] = std::move(status);
  }
  void Mend(const LayerExpert& pair) {
    absl::MutexLock lock(&mutex_);
    failures_.erase(pair);
  }
  std::vector<LayerExpert> loads() const {
    absl::MutexLock lock(&mutex_);
    return loads_;
  }
  bool WaitForLoads(size_t count) const {
    absl::MutexLock lock(&mutex_);
    const auto enough = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return loads_.size() >= count;
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), kTestPatience);
  }
  // Bytes of experts that somebody still has.
  size_t resident() const {
    absl::MutexLock lock(&mutex_);
    return resident_;
  }
  size_t most_resident() const {
    absl::MutexLock lock(&mutex_);
    return most_resident_;
  }
  const RandomExperts& weights() const { return weights_; }

 private:
  class Expert final : public CpuExpert {
   public:
    Expert(TestExperts& maker, const kernels::ExpertWeights& weights)
        : maker_(maker), weights_(weights) {}
    ~Expert() override {
      absl::MutexLock lock(&maker_.mutex_);
      maker_.resident_ -= kTestExpertBytes;
    }
    const kernels::ExpertWeights& weights() const override { return weights_; }
    size_t resident_bytes() const override { return kTestExpertBytes; }

   private:
    TestExperts& maker_;
    const kernels::ExpertWeights& weights_;
  };

  const RandomExperts weights_;
  const int num_lanes_;
  uint64_t memory_bytes_ = 0;
  mutable absl::Mutex mutex_;
  OnLost on_lost_ ABSL_GUARDED_BY(mutex_);
  bool gated_ ABSL_GUARDED_BY(mutex_) = false;
  int allowed_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<LayerExpert, absl::Status> failures_ ABSL_GUARDED_BY(mutex_);
  std::vector<LayerExpert> loads_ ABSL_GUARDED_BY(mutex_);
  size_t resident_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t most_resident_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sheaf

#pragma once
// A checkpoint of a tiny model with a DeviceEngine over a FakeCudaRuntime that holds its experts,
// and the CPU's engine for the bytes that are right.
//
// Threads    one.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "model/checkpoint.h"
#include "model/expert_slice.h"
#include "tests/cuda/fake_cuda_runtime.h"
#include "tests/cuda/reference_expert_kernels.h"
#include "tests/exchange/random_experts.h"
#include "tests/model/tiny_model.h"
#include "worker/device/device_engine.h"
#include "worker/engine/cpu_engine.h"

namespace sheaf::testing {

inline constexpr int kFakeGpuExperts = 6;

inline LayerExpert PairOf(int layer, int expert) { return {LayerId(layer), ExpertId(expert)}; }

class FakeGpu {
 public:
  FakeGpu(TinyStorage storage, std::mt19937_64& random)
      : model_(MakeTinyModel(storage, kFakeGpuExperts, random)) {
    model_.Write(dir_.path());
    checkpoint_ = *Checkpoint::Open(dir_.path());
    cpu_ = std::make_unique<CpuEngine>(Reader(), 1, 0);
  }

  using MakeKernels = std::function<std::unique_ptr<DeviceExpertKernels>(FakeCudaRuntime&)>;

  absl::Status Make(const FakeCudaOptions& options, uint64_t memory_bytes = 0,
                    const ReferenceKernelOptions& kernels = {}, int ordinal = 0, int lanes = 1) {
    return MakeWith(
        [&](FakeCudaRuntime& runtime) {
          return std::make_unique<ReferenceExpertKernels>(runtime, kernels);
        },
        options, memory_bytes, ordinal, lanes);
  }
  absl::Status MakeWith(const MakeKernels& kernels, const FakeCudaOptions& options,
                        uint64_t memory_bytes = 0, int ordinal = 0, int lanes = 1) {
    engine_ = nullptr;
    CudaPlatform platform;
    auto runtime = std::make_unique<FakeCudaRuntime>(options);
    runtime_ = runtime.get();
    platform.kernels = kernels(*runtime);
    platform.runtime = std::move(runtime);
    auto made = DeviceEngine::Create(std::move(platform), Reader(),
                                     {ordinal, lanes, memory_bytes, kFakeGpuExperts});
    if (made.ok()) engine_ = *std::move(made);
    return made.status();
  }

  // All experts of a layer, of either engine.
  static std::vector<HeldExpertPtr> LoadLayer(ExpertEngine& engine, int layer) {
    std::vector<HeldExpertPtr> experts;
    for (int expert = 0; expert < kFakeGpuExperts; ++expert) {
      auto loaded = engine.Load(PairOf(layer, expert), 0);
      EXPECT_TRUE(loaded.ok()) << loaded.status();
      experts.push_back(loaded.ok() ? *std::move(loaded) : nullptr);
    }
    return experts;
  }

  FakeCudaRuntime& runtime() { return *runtime_; }
  DeviceEngine& engine() { return *engine_; }
  CpuEngine& cpu() { return *cpu_; }
  const ModelConfig& config() const { return model_.config; }
  void Drop() { engine_ = nullptr; }

 private:
  std::unique_ptr<ExpertReader> Reader() {
    return *ExpertReader::Create(checkpoint_, model_.config);
  }

  const TempDir dir_;
  const TinyModel model_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::unique_ptr<CpuEngine> cpu_;
  FakeCudaRuntime* runtime_ = nullptr;  // the engine's
  std::unique_ptr<DeviceEngine> engine_;
};

// Rows and which experts read them: what one worker gets of a layer.
class FakeGpuBatch {
 public:
  FakeGpuBatch(std::mt19937_64& random, int tokens, int hidden, int top_k, bool skew = false)
      : batch_(random, LayerId(1), tokens, hidden, kFakeGpuExperts, top_k, skew) {
    const RoutedBatch routed = batch_.At(1);
    rows_.resize(kFakeGpuExperts);
    for (int slot = 0; slot < tokens * top_k; ++slot)
      rows_[static_cast<size_t>(routed.expert_ids[slot])].push_back(slot / top_k);
    pairs_ = static_cast<size_t>(tokens * top_k);
  }

  // Jobs without rows are left in.
  ExpertBatch Of(const std::vector<HeldExpertPtr>& experts, bool with_sums,
                 std::vector<HeldExpertJob>& jobs) const {
    ExpertBatch batch;
    batch.layer = LayerId(1);
    batch.x = batch_.At(1).x;
    if (!with_sums) batch.x.sums = nullptr;
    jobs.clear();
    for (size_t i = 0; i < experts.size(); ++i) jobs.push_back({experts[i].get(), rows_[i]});
    batch.jobs = jobs;
    return batch;
  }
  size_t floats() const { return pairs_ * static_cast<size_t>(batch_.At(1).x.k); }

  std::vector<float> Right(ExpertCompute& cpu, const std::vector<HeldExpertPtr>& experts) const {
    std::vector<HeldExpertJob> jobs;
    std::vector<float> out(floats());
    EXPECT_TRUE(cpu.Submit(Of(experts, false, jobs)).ok());
    EXPECT_TRUE(cpu.Complete(out.data()).ok());
    return out;
  }

 private:
  RandomBatch batch_;
  std::vector<std::vector<int32_t>> rows_;  // by expert
  size_t pairs_ = 0;
};

}  // namespace sheaf::testing

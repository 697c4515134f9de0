#pragma once
// A small random mixture-of-experts model and random batches for it: what the exchange's tests send
// around. The experts are float-stored, so that no weight packing is needed. Same seed, same bits,
// in every process.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "exchange/cpu_experts.h"
#include "exchange/expert_layer.h"

namespace sheaf {

class RandomExperts final : public HeldExperts {
 public:
  RandomExperts(uint64_t seed, int num_layers, int num_experts, int hidden, int intermediate)
      : num_experts_(num_experts) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0, 0.2f);
    const size_t matrix = size_t(hidden) * size_t(intermediate);
    memory_.resize(size_t(num_layers) * size_t(num_experts) * 3 * matrix);
    for (float& value : memory_) value = normal(random);
    const float* at = memory_.data();
    const auto linear = [&](int n, int k) {
      kernels::Linear result;
      result.storage = kernels::Linear::Storage::kDense;
      result.dense = {n, k, kernels::FloatFormat::kF32, at};
      at += matrix;
      return result;
    };
    for (int i = 0; i < num_layers * num_experts; ++i) {
      kernels::ExpertWeights weights;
      weights.gate = linear(intermediate, hidden);
      weights.up = linear(intermediate, hidden);
      weights.down = linear(hidden, intermediate);
      experts_.push_back(weights);
    }
    held_ = std::make_unique<CpuExperts>(
        num_layers, num_experts,
        [this](LayerId layer, ExpertId expert) { return weights(layer, expert); });
  }

  HeldExpertPtr Find(LayerId layer, ExpertId expert) const override {
    return held_->Find(layer, expert);
  }
  std::unique_ptr<ExpertCompute> NewCompute(ThreadPool& pool) const override {
    return held_->NewCompute(pool);
  }
  HeldExpertPtr Borrow(const kernels::ExpertWeights& weights) const override {
    return held_->Borrow(weights);
  }
  const kernels::ExpertWeights* weights(LayerId layer, ExpertId expert) const {
    const size_t index = size_t(layer.value()) * size_t(num_experts_) + size_t(expert.value());
    return index < experts_.size() ? &experts_[index] : nullptr;
  }

 private:
  int num_experts_;
  std::vector<float> memory_;
  std::vector<kernels::ExpertWeights> experts_;
  std::unique_ptr<CpuExperts> held_;
};

// Quantized random rows and routes with ascending distinct ids. `skew` of 1 sends every token to
// the lowest experts.
class RandomBatch {
 public:
  RandomBatch(std::mt19937_64& random, LayerId layer, int num_tokens, int hidden, int num_experts,
              int top_k, bool skew = false,
              kernels::ActivationBits bits = kernels::ActivationBits::k16)
      : x_(bits) {
    std::normal_distribution<float> normal;
    std::vector<float> row(static_cast<size_t>(hidden));
    x_.Resize(num_tokens, hidden);
    for (int token = 0; token < num_tokens; ++token) {
      for (float& value : row) value = normal(random);
      const auto at = static_cast<size_t>(token);
      kernels::QuantizeRow(bits, row.data(), hidden, x_.row_planes(at), x_.row_scales(at),
                           x_.row_sums(at));
      std::vector<int32_t> experts(static_cast<size_t>(num_experts));
      std::iota(experts.begin(), experts.end(), 0);
      if (!skew) std::shuffle(experts.begin(), experts.end(), random);
      experts.resize(static_cast<size_t>(top_k));
      std::sort(experts.begin(), experts.end());
      ids_.insert(ids_.end(), experts.begin(), experts.end());
      for (int k = 0; k < top_k; ++k) weights_.push_back(normal(random));
    }
    batch_.layer = layer;
    batch_.x = x_.view();
    batch_.top_k = top_k;
    batch_.expert_ids = ids_.data();
    batch_.weights = weights_.data();
  }
  RandomBatch(const RandomBatch&) = delete;

  RoutedBatch At(uint64_t step) const {
    RoutedBatch batch = batch_;
    batch.step = StepId(step);
    return batch;
  }
  size_t sum_floats() const { return size_t(batch_.x.num_rows) * size_t(batch_.x.k); }

 private:
  kernels::QuantizedRowsBuffer x_;
  std::vector<int32_t> ids_;
  std::vector<float> weights_;
  RoutedBatch batch_;
};

}  // namespace sheaf

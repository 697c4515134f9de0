#pragma once
// SliceExperts: an ExpertSlice's experts for a process that holds them for good (--workers 0,
// in-process workers). Threads, ownership: as exchange/cpu_experts.h; it owns the slice.

#include <memory>
#include <utility>

#include "exchange/cpu_experts.h"
#include "model/config.h"
#include "model/expert_slice.h"

namespace sheaf {

class SliceExperts final : public HeldExperts {
 public:
  SliceExperts(std::unique_ptr<ExpertSlice> slice, const ModelConfig& config)
      : slice_(std::move(slice)),
        experts_(config.num_layers, config.num_experts, [this](LayerId layer, ExpertId expert) {
          return slice_->Find(layer, expert);
        }) {}
  HeldExpertPtr Find(LayerId layer, ExpertId expert) const override {
    return experts_.Find(layer, expert);
  }
  std::unique_ptr<ExpertCompute> NewCompute(ThreadPool& pool) const override {
    return experts_.NewCompute(pool);
  }
  HeldExpertPtr Borrow(const kernels::ExpertWeights& weights) const override {
    return experts_.Borrow(weights);
  }

 private:
  const std::unique_ptr<ExpertSlice> slice_;
  const CpuExperts experts_;
};

}  // namespace sheaf

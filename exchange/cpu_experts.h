#pragma once
// Experts in the host's memory, computed by kernels/experts/expert_ffn.h: the CPU's side of
// exchange/expert_compute.h.
//
//   CpuExpert         what CpuExpertCompute can run
//   CpuExpertCompute  depth 1: Submit keeps the views, Complete computes over the pool
//   CpuExperts        experts that somebody else owns and that stay: --workers 0, in-process
//                     workers
//
// Threads    as exchange/expert_compute.h. Errors: none.
// Cost       of the kernels; CpuExperts::Find is an index, without a count of references.

#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "exchange/expert_compute.h"
#include "kernels/experts/expert_ffn.h"

namespace sheaf {

class CpuExpert : public HeldExpert {
 public:
  virtual const kernels::ExpertWeights& weights() const = 0;
  int hidden_size() const final { return weights().gate.k(); }
};

class CpuExpertCompute final : public ExpertCompute {
 public:
  explicit CpuExpertCompute(ThreadPool& pool) : pool_(pool) {}

  int depth() const override { return 1; }
  absl::Status Submit(const ExpertBatch& batch) override;
  absl::Status Complete(float* out) override;
  void Abandon() override {}

 private:
  ThreadPool& pool_;
  ExpertBatch batch_;
  std::vector<int32_t> sums_;
  std::vector<kernels::ExpertJob> jobs_;
  kernels::ExpertScratch scratch_;
};

class CpuExperts final : public HeldExperts {
 public:
  // `find` is asked once for each expert; null: not held. What it points to outlives this.
  CpuExperts(int num_layers, int num_experts,
             absl::FunctionRef<const kernels::ExpertWeights*(LayerId, ExpertId)> find);
  HeldExpertPtr Find(LayerId layer, ExpertId expert) const override;
  std::unique_ptr<ExpertCompute> NewCompute(ThreadPool& pool) const override;
  HeldExpertPtr Borrow(const kernels::ExpertWeights& weights) const override;

 private:
  class Borrowed final : public CpuExpert {
   public:
    explicit Borrowed(const kernels::ExpertWeights* weights) : weights_(weights) {}
    const kernels::ExpertWeights& weights() const override { return *weights_; }
    size_t resident_bytes() const override { return 0; }
    bool held() const { return weights_ != nullptr; }

   private:
    const kernels::ExpertWeights* weights_;
  };

  const int num_layers_;
  const int num_experts_;
  std::vector<Borrowed> experts_;  // [layers][experts]
};

}  // namespace sheaf

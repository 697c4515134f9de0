#pragma once
// LocalExpertLayer: ExpertLayer with the experts in this process (--workers 0).
//
// The same plan, ExpertCompute and ordered sum as with workers, so the bits are the same. A batch
// longer than chunk_tokens is worked off in parts (expert_layer.h). `combine` is what answers of
// workers travel as: with int16 groups every vector is rounded here as it would be on the way.
//
// Asked between two parts, give_up ends a batch with kAborted.
//
// Threads    one step thread; the pool is the caller's, so the work is done in Finish().
// Ownership  borrows experts and pool; they outlive it.
// Errors     kInternal: a routed expert is not held (names layer, expert); kInvalidArgument: a
//            route outside; ExpertCompute's.

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "base/byte_buffer.h"
#include "exchange/expert_compute.h"
#include "exchange/expert_layer.h"
#include "exchange/layer/dispatch_plan.h"
#include "exchange/wire/frame.h"

namespace sheaf {

class LocalExpertLayer final : public ExpertLayer {
 public:
  LocalExpertLayer(const HeldExperts& experts, int num_layers, int num_experts, ThreadPool& pool,
                   FrameElement combine = FrameElement::kFloat32,
                   int chunk_tokens = kExpertChunkTokens);

  // Empty: never.
  void SetGiveUp(std::function<bool()> give_up) { give_up_ = std::move(give_up); }

  absl::Status Begin(const RoutedBatch& batch) override;
  bool TakeShared(const kernels::ExpertWeights& shared) override;
  absl::Status Finish(float* sum) override;

 private:
  absl::Status RunChunk(int first_token, int num_tokens, float* sum);

  const HeldExperts& held_;
  ThreadPool& pool_;
  const std::unique_ptr<ExpertCompute> compute_;
  const int num_layers_;
  const std::vector<WorkerId> holders_;  // one and the same for every expert
  const int chunk_tokens_;
  const FrameElement combine_;
  std::function<bool()> give_up_;

  RoutedBatch batch_;
  HeldExpertPtr shared_;  // null: not taken
  DispatchPlan plan_;
  ByteBuffer outputs_;                 // float [pairs][hidden], then the shared expert's rows
  std::vector<int32_t> all_rows_;      // 0, 1, 2, ...
  std::vector<const float*> vectors_;  // [slots] into outputs_
  std::vector<HeldExpertPtr> experts_;
  std::vector<HeldExpertJob> jobs_;
};

// Rows [first, first + count) of x.
kernels::QuantizedRows SliceRows(const kernels::QuantizedRows& x, int first, int count);

}  // namespace sheaf

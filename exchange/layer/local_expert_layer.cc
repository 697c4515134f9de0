#include "exchange/layer/local_expert_layer.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/ordered_sum.h"
#include "exchange/wire/combine_payload.h"

namespace sheaf {

kernels::QuantizedRows SliceRows(const kernels::QuantizedRows& x, int first, int count) {
  kernels::QuantizedRows slice = x;
  slice.num_rows = count;
  slice.planes = x.row_planes(first);
  slice.scales = x.row_scales(first);
  if (x.sums != nullptr) slice.sums = x.row_sums(first);
  return slice;
}

LocalExpertLayer::LocalExpertLayer(const HeldExperts& experts, int num_layers, int num_experts,
                                   ThreadPool& pool, FrameElement combine, int chunk_tokens)
    : held_(experts),
      pool_(pool),
      compute_(experts.NewCompute(pool)),
      num_layers_(num_layers),
      holders_(size_t(num_experts), WorkerId(0)),
      chunk_tokens_(std::max(1, chunk_tokens)),
      combine_(combine) {}

absl::Status LocalExpertLayer::Begin(const RoutedBatch& batch) {
  if (batch.layer.value() < 0 || batch.layer.value() >= num_layers_) {
    return absl::InvalidArgumentError(
        absl::StrFormat("layer %d of %d", batch.layer.value(), num_layers_));
  }
  batch_ = batch;
  shared_ = nullptr;
  return absl::OkStatus();
}

bool LocalExpertLayer::TakeShared(const kernels::ExpertWeights& shared) {
  shared_ = held_.Borrow(shared);
  return shared_ != nullptr;
}

absl::Status LocalExpertLayer::Finish(float* sum) {
  for (int first = 0; first < batch_.x.num_rows; first += chunk_tokens_) {
    if (first > 0 && give_up_ && give_up_()) {
      return absl::AbortedError(
          absl::StrFormat("layer %d is not wanted any more", batch_.layer.value()));
    }
    const int count = std::min(chunk_tokens_, batch_.x.num_rows - first);
    SHEAF_RETURN_IF_ERROR(RunChunk(first, count, sum + size_t(first) * size_t(batch_.x.k)));
  }
  return absl::OkStatus();
}

absl::Status LocalExpertLayer::RunChunk(int first_token, int num_tokens, float* sum) {
  const size_t first_slot = size_t(first_token) * size_t(batch_.top_k);
  const Routes routes{batch_.layer, num_tokens, batch_.top_k, batch_.expert_ids + first_slot};
  SHEAF_RETURN_IF_ERROR(PlanDispatch(routes, holders_, {}, plan_));
  const size_t hidden = size_t(batch_.x.k);
  vectors_.resize(size_t(num_tokens) * size_t(batch_.top_k));
  const float* shared_vectors = nullptr;
  for (const WorkerPlan& work : plan_.workers()) {  // one: everything is here
    const size_t num_vectors = work.rows.size() + (shared_ == nullptr ? 0 : size_t(num_tokens));
    float* out = reinterpret_cast<float*>(outputs_.Resize(sizeof(float) * hidden * num_vectors));
    jobs_.clear();
    experts_.clear();
    size_t pair = 0;
    for (const ExpertRun& run : work.experts) {
      experts_.push_back(held_.Find(batch_.layer, ExpertId(run.expert)));
      if (experts_.back() == nullptr) {
        return absl::InternalError(absl::StrFormat(
            "layer %d, expert %d is not loaded in this process", batch_.layer.value(), run.expert));
      }
      jobs_.push_back({experts_.back().get(), {work.rows.data() + pair, size_t(run.num_rows)}});
      pair += size_t(run.num_rows);
    }
    if (shared_ != nullptr) {
      for (int row = int(all_rows_.size()); row < num_tokens; ++row) all_rows_.push_back(row);
      jobs_.push_back({shared_.get(), {all_rows_.data(), size_t(num_tokens)}});
      shared_vectors = out + work.rows.size() * hidden;
    }
    for (size_t i = 0; i < work.slots.size(); ++i)
      vectors_[size_t(work.slots[i])] = out + i * hidden;
    // Every token has a route, so the plan's token rows are the chunk's rows themselves.
    SHEAF_RETURN_IF_ERROR(compute_->Submit(
        {batch_.layer, SliceRows(batch_.x, first_token, num_tokens), jobs_}));
    SHEAF_RETURN_IF_ERROR(compute_->Complete(out));
    if (combine_ == FrameElement::kInt16Groups) {
      pool_.ParallelFor(int64_t(work.rows.size()), CostOfElements(batch_.x.k), [&](int64_t i, int) {
        RoundToInt16Groups(out + size_t(i) * hidden, hidden);
      });
    }
  }
  SumInExpertOrder(pool_, num_tokens, batch_.top_k, batch_.x.k, batch_.weights + first_slot,
                   vectors_.data(), sum, shared_vectors);
  return absl::OkStatus();
}

}  // namespace sheaf

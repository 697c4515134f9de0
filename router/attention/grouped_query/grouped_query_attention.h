#pragma once
// Grouped-query attention (GLM-4.6): several query heads share a key and value head.
//
//   q, k, v = projections (+ bias);  q, k = norm over each head;  RoPE on the first rotary_dim
//   out = o_proj(softmax(q . K / sqrt(head_dim)) V)
//
// Cache      plane l: layer l's keys and values, kernels::KvPool. In e4m3 they are divided by the
//            layer's calibrated scales (model/attention/kv_scales.h), which come back as factors of
//            the scores and of the output.
// Everything else as router/attention/attention.h says.

#include <vector>

#include "kernels/attention/paged_attention.h"
#include "kernels/linear/quantized_rows.h"
#include "router/attention/attention.h"
#include "router/attention/scratch.h"

namespace sheaf {

class GroupedQueryAttention final : public Attention {
 public:
  explicit GroupedQueryAttention(const AttentionParts& parts);

  absl::Status Run(int layer, std::span<const StepRow> rows, const kernels::Activations& normed,
                   float* attended) override;

  static std::vector<size_t> PlaneBlockBytes(const GroupedQueryShape& shape, int num_layers,
                                             HeadRange heads, kernels::KvFormat format,
                                             int block_size);
  // Layer `layer`'s part of a cache that was made for `heads`.
  static kernels::KvPool Pool(const GroupedQueryShape& shape, HeadRange heads, const KvCache& cache,
                              int layer);

 private:
  void Project(const GroupedQueryWeights& weights, const kernels::Activations& normed);
  void RotateAndStore(const GroupedQueryWeights& weights, const kernels::KvPool& kv,
                      const KvScales& scales, std::span<const StepRow> rows);
  void AttendTo(const kernels::KvPool& kv, const KvScales& scales, std::span<const StepRow> rows,
                float* attended);

  const AttentionParts parts_;
  const GroupedQueryShape& shape_;
  const int num_heads_;  // of this rank
  const int q_size_;
  const int kv_size_;
  const int stride_;  // of a row of projected_
  const kernels::RopeTable rope_;

  Scratch projected_;  // [rows][q | k | v]
  std::vector<kernels::AttentionSequence> sequences_;
};

}  // namespace sheaf

#pragma once
// The router of a mixture-of-experts layer, float32 end to end (DeepSeek-V3 "noaux_tc", GLM-4.x and
// GLM-5.x):
//   s = sigmoid(x . W_gate^T); c = s + correction_bias; groups outside the best `topk_group` (by
//   the sum of their two largest c) are dropped; the top_k largest c are chosen, the lowest id
//   winning ties; weight = s / (sum of chosen s + 1e-20) if norm_topk_prob, times routed_scaling.
//
// Shapes     logits [num_rows][num_experts]; ids, weights [num_rows][top_k], ids ascending in each
//            row.
// Threads    pure. The product x . W_gate^T itself is kernels/linear/linear.h on the float weights.
// A row whose logits contain NaN gets ids 0..top_k-1 and NaN weights: it must not read outside the
// array, and the NaN reaches the sampler, which reports it.

#include <cstddef>
#include <cstdint>

namespace sheaf::kernels {

struct ExpertGateParams {
  int num_experts = 0;
  int top_k = 0;
  int num_groups = 1;
  int topk_groups = 1;
  bool normalize = true;
  float routed_scaling = 1.0f;
  const float* correction_bias = nullptr;  // [num_experts] or null
};

void SelectExperts(const float* logits, int num_rows, const ExpertGateParams& params, int32_t* ids,
                   float* weights);

// y[i] = fma(weight, x[i], y[i]): the combine's ordered sum.
void AddWeighted(const float* x, float weight, size_t count, float* y);

namespace ref {
void SelectExperts(const float* logits, int num_rows, const ExpertGateParams& params, int32_t* ids,
                   float* weights);
void AddWeighted(const float* x, float weight, size_t count, float* y);
}  // namespace ref

}  // namespace sheaf::kernels

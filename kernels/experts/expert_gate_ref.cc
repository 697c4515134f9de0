#include <cmath>
#include <limits>
#include <vector>

#include "kernels/experts/expert_gate.h"
#include "kernels/simd/lanes_ref.h"

namespace sheaf::kernels::ref {
namespace {

constexpr float kDropped = -std::numeric_limits<float>::infinity();

// Sets c of the experts outside the best groups to kDropped. A group's score is the sum of its two
// largest c.
void DropGroups(const ExpertGateParams& params, std::vector<float>& c) {
  if (params.num_groups <= 1 || params.topk_groups >= params.num_groups) return;
  const int size = params.num_experts / params.num_groups;
  std::vector<float> score(params.num_groups);
  for (int group = 0; group < params.num_groups; ++group) {
    float first = kDropped, second = kDropped;
    for (int i = group * size; i < (group + 1) * size; ++i) {
      if (c[i] > first) {
        second = first;
        first = c[i];
      } else if (c[i] > second) {
        second = c[i];
      }
    }
    score[group] = size > 1 ? first + second : first;
  }
  std::vector<bool> kept(params.num_groups, false);
  for (int round = 0; round < params.topk_groups; ++round) {
    int best = -1;
    for (int group = 0; group < params.num_groups; ++group) {
      if (!kept[group] && (best < 0 || score[group] > score[best])) best = group;
    }
    kept[best] = true;
  }
  for (int i = 0; i < size * params.num_groups; ++i) {
    if (!kept[i / size]) c[i] = kDropped;
  }
}

void SelectRow(const float* logits, const ExpertGateParams& params, int32_t* ids, float* weights) {
  std::vector<float> s(params.num_experts), c(params.num_experts);
  for (int i = 0; i < params.num_experts; ++i) {
    s[i] = Sigmoid(logits[i]);
    c[i] = params.correction_bias != nullptr ? s[i] + params.correction_bias[i] : s[i];
    if (std::isnan(c[i])) {
      for (int k = 0; k < params.top_k; ++k) {
        ids[k] = k;
        weights[k] = std::numeric_limits<float>::quiet_NaN();
      }
      return;
    }
  }
  DropGroups(params, c);
  std::vector<bool> chosen(params.num_experts, false);
  for (int k = 0; k < params.top_k; ++k) {
    int best = -1;
    for (int i = 0; i < params.num_experts; ++i) {
      if (!chosen[i] && (best < 0 || c[i] > c[best])) best = i;
    }
    chosen[best] = true;
  }
  int count = 0;
  Lanes16 sum;
  for (int i = 0; i < params.num_experts; ++i) {
    if (!chosen[i]) continue;
    ids[count] = i;
    weights[count] = s[i];
    sum.Add(count, s[i]);
    ++count;
  }
  const float divisor = params.normalize ? sum.Sum() + 1e-20f : 1.0f;
  for (int k = 0; k < count; ++k) weights[k] = weights[k] / divisor * params.routed_scaling;
}

}  // namespace

void SelectExperts(const float* logits, int num_rows, const ExpertGateParams& params, int32_t* ids,
                   float* weights) {
  for (int row = 0; row < num_rows; ++row) {
    SelectRow(logits + static_cast<ptrdiff_t>(row) * params.num_experts, params,
              ids + static_cast<ptrdiff_t>(row) * params.top_k,
              weights + static_cast<ptrdiff_t>(row) * params.top_k);
  }
}

void AddWeighted(const float* x, float weight, size_t count, float* y) {
  for (size_t i = 0; i < count; ++i) y[i] = std::fma(weight, x[i], y[i]);
}

}  // namespace sheaf::kernels::ref

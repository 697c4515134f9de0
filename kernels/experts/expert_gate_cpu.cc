#include "kernels/experts/expert_gate.h"
#include "kernels/simd/highway_targets.h"
#include "kernels/simd/reference_switch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/experts/expert_gate_cpu.cc"
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/vector/exp-inl.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

// s = sigmoid(logits), c = s + bias (or s).
void GateScoresSimd(const float* logits, const float* bias, size_t count, float* s, float* c) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Lanes score = Sigmoid(Load(logits + i));
    Store(score, s + i);
    Store(bias != nullptr ? Add(score, Load(bias + i)) : score, c + i);
  }
  if (i < count) {
    const size_t rest = count - i;
    const Lanes score = Sigmoid(LoadN(logits + i, rest));
    StoreN(score, s + i, rest);
    StoreN(bias != nullptr ? Add(score, LoadN(bias + i, rest)) : score, c + i, rest);
  }
}

// The sum of the chosen scores, in the lanes of the contract.
float SumSimd(const float* x, size_t count) {
  Lanes sum = Zero();
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum = Add(sum, Load(x + i));
  if (i < count) sum = Add(sum, LoadN(x + i, count - i));
  return ReduceSum(sum);
}

void AddWeightedSimd(const float* x, float weight, size_t count, float* y) {
  const Lanes w = Set(weight);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(Fma(w, Load(x + i), Load(y + i)), y + i);
  if (i < count) {
    const size_t rest = count - i;
    StoreN(Fma(w, LoadN(x + i, rest), LoadN(y + i, rest)), y + i, rest);
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(GateScoresSimd);
HWY_EXPORT(SumSimd);
HWY_EXPORT(AddWeightedSimd);

namespace {

constexpr float kDropped = -std::numeric_limits<float>::infinity();

// Ids of the `count` largest values, ascending ids, the lowest id winning ties. No NaNs.
void Largest(const float* values, int num_values, int count, int32_t* ids) {
  if (count <= 0) return;
  // ids[0, filled) stay ordered by (value descending, id ascending).
  int filled = 0;
  for (int i = 0; i < num_values; ++i) {
    if (filled == count && !(values[i] > values[ids[count - 1]])) continue;
    int at = filled < count ? filled++ : count - 1;
    for (; at > 0 && values[i] > values[ids[at - 1]]; --at) ids[at] = ids[at - 1];
    ids[at] = i;
  }
  std::sort(ids, ids + filled);
}

class Gate {
 public:
  explicit Gate(const ExpertGateParams& params)
      : params_(params),
        scores_(params.num_experts),
        choice_(params.num_experts),
        group_scores_(params.num_groups),
        groups_(params.num_groups) {}

  void SelectRow(const float* logits, int32_t* ids, float* weights) {
    HWY_DYNAMIC_DISPATCH(GateScoresSimd)
    (logits, params_.correction_bias, scores_.size(), scores_.data(), choice_.data());
    if (std::any_of(choice_.begin(), choice_.end(), [](float c) { return std::isnan(c); })) {
      for (int k = 0; k < params_.top_k; ++k) {
        ids[k] = k;
        weights[k] = std::numeric_limits<float>::quiet_NaN();
      }
      return;
    }
    if (params_.num_groups > 1 && params_.topk_groups < params_.num_groups) DropGroups();
    Largest(choice_.data(), params_.num_experts, params_.top_k, ids);
    for (int k = 0; k < params_.top_k; ++k) weights[k] = scores_[ids[k]];
    const float divisor =
        params_.normalize ? HWY_DYNAMIC_DISPATCH(SumSimd)(weights, params_.top_k) + 1e-20f : 1.0f;
    for (int k = 0; k < params_.top_k; ++k) {
      weights[k] = weights[k] / divisor * params_.routed_scaling;
    }
  }

 private:
  void DropGroups() {
    const int size = params_.num_experts / params_.num_groups;
    for (int group = 0; group < params_.num_groups; ++group) {
      const float* c = choice_.data() + group * size;
      float first = kDropped, second = kDropped;
      for (int i = 0; i < size; ++i) {
        second = std::max(second, std::min(first, c[i]));
        first = std::max(first, c[i]);
      }
      group_scores_[group] = size > 1 ? first + second : first;
    }
    Largest(group_scores_.data(), params_.num_groups, params_.topk_groups, groups_.data());
    const auto kept_end = groups_.begin() + params_.topk_groups;
    for (int group = 0; group < params_.num_groups; ++group) {
      if (std::binary_search(groups_.begin(), kept_end, group)) continue;
      std::fill_n(choice_.begin() + group * size, size, kDropped);
    }
  }

  const ExpertGateParams& params_;
  std::vector<float> scores_;  // s
  std::vector<float> choice_;  // c
  std::vector<float> group_scores_;
  std::vector<int32_t> groups_;
};

}  // namespace

void SelectExperts(const float* logits, int num_rows, const ExpertGateParams& params, int32_t* ids,
                   float* weights) {
  if (internal::UseReference()) return ref::SelectExperts(logits, num_rows, params, ids, weights);
  Gate gate(params);
  for (int row = 0; row < num_rows; ++row) {
    gate.SelectRow(logits + static_cast<ptrdiff_t>(row) * params.num_experts,
                   ids + static_cast<ptrdiff_t>(row) * params.top_k,
                   weights + static_cast<ptrdiff_t>(row) * params.top_k);
  }
}

void AddWeighted(const float* x, float weight, size_t count, float* y) {
  if (internal::UseReference()) return ref::AddWeighted(x, weight, count, y);
  HWY_DYNAMIC_DISPATCH(AddWeightedSimd)(x, weight, count, y);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

#include "model/formats/weight_groups.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "kernels/linear/packed_w4.h"
#include "model/formats/tensor_checks.h"

namespace sheaf {
namespace {

constexpr int kSegments[] = {128, 64, 32};

bool SegmentsFit(std::span<const int32_t> group_of_input, int segment) {
  for (size_t i = 1; i < group_of_input.size(); ++i) {
    if (group_of_input[i] != group_of_input[i - 1] && i % segment != 0) return false;
  }
  return true;
}

// Empty where the file has none, or one of zeros that only says that nobody set it.
absl::StatusOr<std::vector<int32_t>> ReadGIdx(const Checkpoint& checkpoint,
                                              const LinearPlan& plan) {
  std::vector<int32_t> g_idx;
  if (plan.g_idx == nullptr) return g_idx;
  SHEAF_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, checkpoint.ReadAll(*plan.g_idx));
  g_idx.resize(static_cast<size_t>(plan.k));
  std::memcpy(g_idx.data(), bytes.data() + plan.g_idx_offset, g_idx.size() * sizeof(int32_t));
  bool all_zero = true;
  for (int i = 0; i < plan.k; ++i) {
    if (g_idx[i] < 0 || g_idx[i] >= plan.groups) {
      return TensorError(*plan.g_idx, absl::StrFormat("groups in 0..%d", plan.groups - 1),
                         absl::StrFormat("%d at input %d", g_idx[i], i));
    }
    all_zero = all_zero && g_idx[i] == 0;
  }
  if (all_zero) g_idx.clear();
  return g_idx;
}

}  // namespace

int GroupSize(int k, int64_t groups, int hint) {
  if (groups == 1) return k;
  if (groups < 1 || groups > k) return 0;
  int size = 0;
  if (hint > 0 && (k + int64_t{hint} - 1) / hint == groups) {
    size = hint;
  } else if (k % groups == 0) {
    size = static_cast<int>(k / groups);
  }
  return size % 32 == 0 ? size : 0;
}

absl::StatusOr<WeightGroups> ReadWeightGroups(const Checkpoint& checkpoint, const LinearPlan& plan,
                                              int first_column, int num_columns) {
  SHEAF_ASSIGN_OR_RETURN(const std::vector<int32_t> g_idx, ReadGIdx(checkpoint, plan));
  WeightGroups groups;
  std::vector<int32_t> group_of_input(static_cast<size_t>(num_columns));
  for (int i = 0; i < num_columns; ++i) {
    const int column = first_column + i;
    group_of_input[i] = g_idx.empty() ? column / plan.group_size : g_idx[column];
  }
  if (!std::is_sorted(group_of_input.begin(), group_of_input.end())) {
    groups.permutation.resize(group_of_input.size());
    std::iota(groups.permutation.begin(), groups.permutation.end(), 0);
    std::stable_sort(groups.permutation.begin(), groups.permutation.end(),
                     [&](int32_t a, int32_t b) { return group_of_input[a] < group_of_input[b]; });
    std::stable_sort(group_of_input.begin(), group_of_input.end());
  }
  const auto* const fit =
      std::find_if(std::begin(kSegments), std::end(kSegments),
                   [&](int segment) { return SegmentsFit(group_of_input, segment); });
  if (fit == std::end(kSegments)) {
    const TensorInfo& named = plan.g_idx != nullptr ? *plan.g_idx : *plan.scales;
    return TensorError(named,
                       absl::StrFormat("groups that are multiples of 32 inputs (columns %d..%d)",
                                       first_column, first_column + num_columns - 1),
                       "groups of other sizes");
  }
  groups.segment = *fit;
  groups.group_of_segment.assign(static_cast<size_t>(kernels::PaddedK(num_columns) / *fit), -1);
  for (int i = 0; i < num_columns; i += groups.segment) {
    groups.group_of_segment[i / groups.segment] = group_of_input[i];
  }
  return groups;
}

}  // namespace sheaf

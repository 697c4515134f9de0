#pragma once
// WeightGroups: which scale each input of a 4-bit matrix has, and the order that packing puts the
// inputs in.
//
// The packed layout wants every segment (32, 64 or 128 inputs) inside one group. Files in order
// (group = input / group_size, or a g_idx that only rises) keep their order; a g_idx that jumps
// (desc_act) has its inputs sorted by group, stably, and the permutation is kept. A larger group
// becomes several segments with the same scale.
//
// Threads    pure.
// Errors     kInvalidArgument: g_idx out of range, groups that no segment size divides.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "model/linear_plan.h"

namespace sheaf {

struct WeightGroups {
  int segment = 128;
  std::vector<int32_t> group_of_segment;  // [PaddedK(columns) / segment]; -1 = padding
  std::vector<int32_t> permutation;       // [columns], packed input -> file input; empty = identity
};

// Columns [first_column, first_column + num_columns) of the plan's matrix. Reads the g_idx tensor
// if there is one.
absl::StatusOr<WeightGroups> ReadWeightGroups(const Checkpoint& checkpoint, const LinearPlan& plan,
                                              int first_column, int num_columns);

// The inputs a scale covers in a file with `groups` scales a row of k inputs; `hint` = the config's
// group size (0 or -1: not said). 0 = no supported size fits.
int GroupSize(int k, int64_t groups, int hint);

}  // namespace sheaf

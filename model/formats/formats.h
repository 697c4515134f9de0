#pragma once
// One weight format = one file here, with the same two functions: Plan (headers only: are its
// tensors there and of the right shape) and Unpack (its words and zero points into
// kernels/packed_w4.h).
//
// Plan functions are called when the format's tensor exists; n and k are the whole matrix, and
// group_size and claim what the config says of it. They fill the plan's tensors, groups and zero
// point convention.
//
// Shapes     Unpack of rows [first_row, first_row + num_rows) and columns [first_column, +
//            num_columns), a multiple of 8 unless it is the end of the matrix; nibbles are zeroed
//            memory of the packed size.
// Threads    pure.
// Cost       one read and one write of the words.
// Errors     as model/linear_plan.h; Unpack cannot fail.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "model/files/row_reader.h"
#include "model/formats/weight_groups.h"
#include "model/linear_plan.h"

namespace sheaf {

// Which axis of the codes, and of scales and zero points, the output rows are.
constexpr RowAxis CodeAxis(WeightFormat format) {
  return format == WeightFormat::kPackQuantized || format == WeightFormat::kDense ? RowAxis::kFirst
                                                                                  : RowAxis::kLast;
}
constexpr RowAxis ScaleAxis(WeightFormat format) { return CodeAxis(format); }

struct UnpackRange {
  int first_row = 0;
  int num_rows = 0;
  int first_column = 0;
  int num_columns = 0;
};

// GPTQ: qweight [k/8][n], qzeros [groups][n/8], scales [groups][n], g_idx [k]. Also what AutoRound
// writes.
absl::Status PlanGptq(const Checkpoint& checkpoint, const QuantizationHints& hints,
                      LinearPlan& plan);
void UnpackGptq(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
                const WeightGroups& groups, uint32_t* nibbles);
int GptqZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group);
int StoredGptqZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group);

// AutoAWQ GEMM: qweight [k][n/8], qzeros [groups][n/8], scales [groups][n]; columns interleaved in
// a word.
absl::Status PlanAwq(const Checkpoint& checkpoint, LinearPlan& plan);
void UnpackAwq(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
               uint32_t* nibbles);
int AwqZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group);

// compressed-tensors pack-quantized: weight_packed [n][ceil(k/8)], weight_scale [n][groups], ...
absl::Status PlanPackQuantized(const Checkpoint& checkpoint, LinearPlan& plan);
void UnpackPackQuantized(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
                         const WeightGroups& groups, uint32_t* nibbles);
int PackQuantizedZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group);
// The same of all experts of a layer in one tensor: their names are base + ".weight_packed" or
// base + "_packed", and so on.
absl::Status PlanFusedPackQuantized(const Checkpoint& checkpoint, const std::string& base,
                                    const FusedPart& part, LinearPlan& plan);

// bf16, f16, f32: weight [n][k].
absl::Status PlanDense(const Checkpoint& checkpoint, LinearPlan& plan);

// One unaligned little-endian word.
inline uint32_t LoadWord(const uint8_t* words, size_t index) {
  uint32_t word;
  __builtin_memcpy(&word, words + index * sizeof(word), sizeof(word));
  return word;
}

}  // namespace sheaf

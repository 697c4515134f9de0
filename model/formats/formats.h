#pragma once
// One weight format = one file here, with the same two functions: Plan (headers only: are its
// tensors there and of the right shape) and Unpack (its words and zero points into
// kernels/linear/packed_w4.h or packed_w8.h, by the plan's bits).
//
// Plan functions are called when the format's tensor exists; n and k are the whole matrix, and
// group_size and claim what the config says of it. They fill the plan's tensors, groups and zero
// point convention.
//
// Shapes     Unpack of rows [first_row, first_row + num_rows) and columns [first_column, +
//            num_columns), a multiple of 8 unless it is the end of the matrix; codes are zeroed
//            memory of the packed size.
// Threads    pure.
// Cost       one read and one write of the words.
// Errors     as model/linear_plan.h; Unpack cannot fail.

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/linear/dense_matrix.h"
#include "model/files/row_reader.h"
#include "model/formats/weight_groups.h"
#include "model/linear_plan.h"

namespace sheaf {

// Which axis of the codes, and of scales and zero points, the output rows are.
constexpr RowAxis CodeAxis(WeightFormat format) {
  return format == WeightFormat::kGptq || format == WeightFormat::kAwq ? RowAxis::kLast
                                                                       : RowAxis::kFirst;
}
constexpr RowAxis ScaleAxis(WeightFormat format) { return CodeAxis(format); }

struct UnpackRange {
  int first_row = 0;
  int num_rows = 0;
  int first_column = 0;
  int num_columns = 0;
};

// GPTQ: qweight [k/8][n], qzeros [groups][n/8], scales [groups][n], g_idx [k]. Also what AutoRound
// writes. Of 8 bits: [k/4] and [n/4].
absl::Status PlanGptq(const Checkpoint& checkpoint, const QuantizationHints& hints,
                      LinearPlan& plan);
void UnpackGptq(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
                const WeightGroups& groups, uint32_t* codes);
int GptqZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group);
int StoredGptqZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group);

// AutoAWQ GEMM: qweight [k][n/8], qzeros [groups][n/8], scales [groups][n]; columns interleaved in
// a word.
absl::Status PlanAwq(const Checkpoint& checkpoint, LinearPlan& plan);
void UnpackAwq(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
               uint32_t* codes);
int AwqZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group);

// compressed-tensors pack-quantized: weight_packed [n][ceil(k/8)], weight_scale [n][groups], ... Of
// 8 bits: [ceil(k/4)].
absl::Status PlanPackQuantized(const Checkpoint& checkpoint, LinearPlan& plan);
void UnpackPackQuantized(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
                         const WeightGroups& groups, uint32_t* codes);
int PackQuantizedZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group);
// The same of all experts of a layer in one tensor: their names are base + ".weight_packed" or
// base + "_packed", and so on.
absl::Status PlanFusedPackQuantized(const Checkpoint& checkpoint, const std::string& base,
                                    const FusedPart& part, LinearPlan& plan);

// compressed-tensors int-quantized: weight [n][k] of signed bytes, weight_scale [n][groups],
// weight_zero_point [n][groups] of signed bytes. What W8A8 files have too.
absl::Status PlanIntQuantized(const Checkpoint& checkpoint, LinearPlan& plan);
void UnpackIntQuantized(const uint8_t* bytes, const LinearPlan& plan, const UnpackRange& range,
                        const WeightGroups& groups, uint32_t* codes);
int IntQuantizedZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group);

// bf16, f16, f32: weight [n][k].
absl::Status PlanDense(const Checkpoint& checkpoint, LinearPlan& plan);

// FP8: weight [n][k] e4m3fn, kept as it is, with weight_scale_inv or weight_scale: one for the
// tensor, a row ([n] or [n][1]), groups of inputs of a row, or square blocks
// ([ceil(n/b)][ceil(k/b)]); of float dtypes, or powers of two of 8 bits. Fused: the same with the
// experts in front.
absl::Status PlanFp8(const Checkpoint& checkpoint, const QuantizationHints& hints,
                     LinearPlan& plan);
absl::Status PlanFusedFp8(const Checkpoint& checkpoint, const QuantizationHints& hints, int rows,
                          int expert, int first_row, LinearPlan& plan);
uint64_t Fp8ScaleBytes(const LinearPlan& plan);  // in the file
// Those that a part of the matrix needs, and reading them into as many floats. Errors: NaN, Inf, or
// so large that a weight would be.
size_t Fp8ScaleCount(const LinearPlan& plan, const UnpackRange& range);
absl::StatusOr<kernels::BlockScales> ReadFp8Scales(const Checkpoint& checkpoint,
                                                   const LinearPlan& plan,
                                                   const UnpackRange& range, float* out);
// The index of the first NaN among e4m3fn codes, or their number.
size_t FirstE4M3Nan(std::span<const uint8_t> codes);

// One unaligned little-endian word.
inline uint32_t LoadWord(const uint8_t* words, size_t index) {
  uint32_t word;
  __builtin_memcpy(&word, words + index * sizeof(word), sizeof(word));
  return word;
}

// Code `index` of words that hold them in order, the first one lowest.
inline int CodeOfWords(const uint8_t* words, size_t index, int bits) {
  const auto codes_a_word = static_cast<size_t>(32 / bits);
  const uint32_t word = LoadWord(words, index / codes_a_word);
  return static_cast<int>((word >> (bits * (index % codes_a_word))) & ((1u << bits) - 1));
}

}  // namespace sheaf

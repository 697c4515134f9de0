// AutoAWQ GEMM: 8 output columns in a word, interleaved. Also AutoRound's "auto_round:auto_awq".
//
// Eight words (8 inputs of the same 8 columns) are an 8 x 8 block of nibbles; transposing it gives
// the packed words.

#include <array>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "kernels/linear/packed_w4.h"
#include "model/formats/formats.h"
#include "model/formats/tensor_checks.h"

namespace sheaf {
namespace {

using kernels::kRowBlock;

constexpr std::array<int, 8> kColumnOfNibble = {0, 2, 4, 6, 1, 3, 5, 7};
constexpr std::array<int, 8> kNibbleOfColumn = {0, 4, 1, 5, 2, 6, 3, 7};

// Swaps the nibbles of b at mask with those of a at mask << shift.
inline void Exchange(uint32_t& a, uint32_t& b, int shift, uint32_t mask) {
  const uint32_t difference = ((a >> shift) ^ b) & mask;
  b ^= difference;
  a ^= difference << shift;
}

// Nibble j of word i becomes nibble i of word j.
inline void TransposeNibbles(std::array<uint32_t, 8>& w) {
  for (int i = 0; i < 8; i += 2) Exchange(w[i], w[i + 1], 4, 0x0F0F0F0Fu);
  for (int i : {0, 1, 4, 5}) Exchange(w[i], w[i + 2], 8, 0x00FF00FFu);
  for (int i = 0; i < 4; ++i) Exchange(w[i], w[i + 4], 16, 0x0000FFFFu);
}

}  // namespace

absl::Status PlanAwq(const Checkpoint& checkpoint, LinearPlan& plan) {
  plan.format = WeightFormat::kAwq;
  const int64_t row_words = plan.n / 8;
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.codes, kWordDtypes));
  if (plan.n % 8 != 0 || plan.k % 8 != 0) {
    return TensorError(*plan.codes, "a matrix of multiples of 8",
                       absl::StrFormat("[%d, %d]", plan.n, plan.k));
  }
  const int64_t bits = plan.codes->shape.size() == 2 ? plan.codes->shape[1] * 32 / plan.n : 0;
  if (bits != 4) {
    return TensorError(*plan.codes,
                       absl::StrFormat("shape %s of 4-bit words", ShapeString({plan.k, row_words})),
                       absl::StrFormat("%s (%d-bit weights in AutoAWQ's layout)",
                                       ShapeString(plan.codes->shape), bits));
  }
  SHEAF_RETURN_IF_ERROR(CheckShape(*plan.codes, {plan.k, row_words}));
  SHEAF_ASSIGN_OR_RETURN(plan.scales, RequireTensor(checkpoint, plan.prefix + ".scales"));
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.scales, kFloatDtypes));
  const int64_t groups = plan.scales->shape.size() == 2 ? plan.scales->shape[0] : 0;
  plan.group_size = GroupSize(plan.k, groups, plan.group_size);
  if (plan.group_size == 0 || plan.scales->shape[1] != plan.n) {
    return TensorError(
        *plan.scales,
        absl::StrFormat("shape [groups, %d], groups of a multiple of 32 of %d inputs", plan.n,
                        plan.k),
        ShapeString(plan.scales->shape));
  }
  plan.groups = static_cast<int>(groups);
  SHEAF_ASSIGN_OR_RETURN(plan.zeros, RequireTensor(checkpoint, plan.prefix + ".qzeros"));
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.zeros, kWordDtypes));
  SHEAF_RETURN_IF_ERROR(CheckShape(*plan.zeros, {groups, row_words}));
  plan.zero_points = ZeroPoints::kStored;
  return absl::OkStatus();
}

void UnpackAwq(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
               uint32_t* nibbles) {
  const size_t row_words = static_cast<size_t>(plan.n) / 8;
  const int padded_steps = kernels::PaddedK(range.num_columns) / 8;
  const int end_row = range.first_row + range.num_rows;
  for (int step = 0; step < range.num_columns / 8; ++step) {
    const size_t source_row =
        static_cast<size_t>(range.first_column) + 8 * static_cast<size_t>(step);
    for (int column_word = range.first_row / 8; 8 * column_word < end_row; ++column_word) {
      std::array<uint32_t, 8> w;
      for (int i = 0; i < 8; ++i)
        w[i] = LoadWord(words, (source_row + i) * row_words + column_word);
      TransposeNibbles(w);
      for (int j = 0; j < 8; ++j) {
        const int row = 8 * column_word + kColumnOfNibble[j] - range.first_row;
        if (row < 0 || row >= range.num_rows) continue;
        nibbles[(static_cast<size_t>(row / kRowBlock) * padded_steps + step) * kRowBlock +
                row % kRowBlock] = w[j];
      }
    }
  }
}

int AwqZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group) {
  const uint32_t word = LoadWord(zeros, static_cast<size_t>(group) * (plan.n / 8) + row / 8);
  return static_cast<int>((word >> (4 * kNibbleOfColumn[row % 8])) & 15u);
}

}  // namespace sheaf

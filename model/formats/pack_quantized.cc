// compressed-tensors "pack-quantized": each row's 8-input words in order, signed values stored with
// 8 added, which makes the stored nibble minus 8 (or minus the stored zero point) the value.

#include <algorithm>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "kernels/packed_w4.h"
#include "model/formats/byte_codes.h"
#include "model/formats/formats.h"
#include "model/formats/tensor_checks.h"

namespace sheaf {
namespace {

using kernels::kRowBlock;

size_t RowWords(const LinearPlan& plan) { return (static_cast<size_t>(plan.k) + 7) / 8; }

// The shape of the words tells their bits.
absl::Status PlanWords(const TensorInfo& words, LinearPlan& plan) {
  SHEAF_RETURN_IF_ERROR(CheckDtype(words, kWordDtypes));
  const int64_t n = plan.n, k = plan.k;
  const std::vector<int64_t> four_bit = {n, (k + 7) / 8}, eight_bit = {n, (k + 3) / 4};
  plan.bits = words.shape == eight_bit && eight_bit != four_bit ? 8 : 4;
  if (plan.bits == 8 || words.shape == four_bit) return absl::OkStatus();
  std::string note;
  if (words.shape.size() == 2 && words.shape[0] == n && (words.shape[1] * 32) % k == 0) {
    note = absl::StrFormat(" (%d-bit weights; only 4-bit and 8-bit ones are served)",
                           words.shape[1] * 32 / k);
  }
  return TensorError(words,
                     absl::StrFormat("shape %s of 4-bit words or %s of 8-bit words",
                                     ShapeString(four_bit), ShapeString(eight_bit)),
                     ShapeString(words.shape) + note);
}

// Words of rows; of 8-bit weights also a signed byte a row.
absl::Status CheckZeros(const LinearPlan& plan, int64_t groups) {
  if (plan.bits == 8 && plan.zeros->dtype == TensorDtype::kI8) {
    return CheckShape(*plan.zeros, {plan.n, groups});
  }
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.zeros, kWordDtypes));
  const int rows_a_word = plan.codes_a_word();
  return CheckShape(*plan.zeros, {(plan.n + rows_a_word - 1) / rows_a_word, groups});
}

// Rows in order: 16 streams of words become one.
void MoveWords(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
               uint32_t* nibbles) {
  const size_t row_words = RowWords(plan);
  const int steps = (range.num_columns + 7) / 8;
  const int padded_steps = kernels::PaddedK(range.num_columns) / 8;
  const int tail = range.num_columns % 8;
  for (int row = 0; row < range.num_rows; row += kRowBlock) {
    const int rows = std::min(kRowBlock, range.num_rows - row);
    const uint8_t* const first = words + ((static_cast<size_t>(range.first_row) + row) * row_words +
                                          range.first_column / 8) *
                                             sizeof(uint32_t);
    uint32_t* const out = nibbles + static_cast<size_t>(row / kRowBlock) * padded_steps * kRowBlock;
    for (int step = 0; step < steps; ++step) {
      for (int r = 0; r < rows; ++r)
        out[step * kRowBlock + r] = LoadWord(first, r * row_words + step);
    }
    if (tail == 0) continue;
    for (int r = 0; r < rows; ++r) out[(steps - 1) * kRowBlock + r] &= (1u << (4 * tail)) - 1;
  }
}

void GatherNibbles(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
                   const std::vector<int32_t>& permutation, uint32_t* nibbles) {
  const size_t row_words = RowWords(plan);
  const int padded_steps = kernels::PaddedK(range.num_columns) / 8;
  for (int row = 0; row < range.num_rows; ++row) {
    const uint8_t* const line =
        words + (static_cast<size_t>(range.first_row) + row) * row_words * sizeof(uint32_t);
    uint32_t* const out =
        nibbles + static_cast<size_t>(row / kRowBlock) * padded_steps * kRowBlock + row % kRowBlock;
    for (int i = 0; i < range.num_columns; ++i) {
      const int input = range.first_column + permutation[i];
      const uint32_t nibble = (LoadWord(line, input / 8) >> (4 * (input % 8))) & 15u;
      out[static_cast<size_t>(i / 8) * kRowBlock] |= nibble << (4 * (i % 8));
    }
  }
}

}  // namespace

absl::Status PlanPackQuantized(const Checkpoint& checkpoint, const QuantizationHints& hints,
                               LinearPlan& plan) {
  plan.format = WeightFormat::kPackQuantized;
  SHEAF_RETURN_IF_ERROR(PlanWords(*plan.codes, plan));
  SHEAF_ASSIGN_OR_RETURN(plan.scales, RequireTensor(checkpoint, plan.prefix + ".weight_scale"));
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.scales, kFloatDtypes));
  const int64_t groups = plan.scales->shape.size() == 2 ? plan.scales->shape[1] : 0;
  plan.group_size = GroupSize(plan.k, groups, hints.group_size);
  if (plan.group_size == 0 || plan.scales->shape[0] != plan.n) {
    return TensorError(
        *plan.scales,
        absl::StrFormat("shape [%d, groups], groups of a multiple of 32 of %d inputs", plan.n,
                        plan.k),
        ShapeString(plan.scales->shape));
  }
  plan.groups = static_cast<int>(groups);
  plan.shape = checkpoint.Find(plan.prefix + ".weight_shape");
  if (plan.shape != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.shape, {TensorDtype::kI64, TensorDtype::kI32}));
    SHEAF_RETURN_IF_ERROR(CheckShape(*plan.shape, {2}));
  }
  plan.zeros = checkpoint.Find(plan.prefix + ".weight_zero_point");
  if (plan.zeros != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckZeros(plan, groups));
    plan.zero_points = ZeroPoints::kStored;
  }
  plan.g_idx = checkpoint.Find(plan.prefix + ".weight_g_idx");
  if (plan.g_idx != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.g_idx, {TensorDtype::kI32}));
    SHEAF_RETURN_IF_ERROR(CheckShape(*plan.g_idx, {plan.k}));
  }
  return absl::OkStatus();
}

void UnpackPackQuantized(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
                         const WeightGroups& groups, uint32_t* codes) {
  if (plan.bits == 8) {
    const size_t row_bytes = (static_cast<size_t>(plan.k) + 3) / 4 * 4;
    UnpackRowsOfBytes(words, row_bytes, /*flip=*/0, range, groups, codes);
  } else if (groups.permutation.empty()) {
    MoveWords(words, plan, range, codes);
  } else {
    GatherNibbles(words, plan, range, groups.permutation, codes);
  }
}

int PackQuantizedZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group) {
  if (plan.zeros->dtype == TensorDtype::kI8) return IntQuantizedZero(zeros, plan, row, group);
  const int rows_a_word = plan.codes_a_word();
  const size_t word = static_cast<size_t>(row / rows_a_word) * plan.groups + group;
  return CodeOfWords(zeros + word * sizeof(uint32_t), static_cast<size_t>(row % rows_a_word),
                     plan.bits);
}

}  // namespace sheaf

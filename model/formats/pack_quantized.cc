// compressed-tensors "pack-quantized": each row's 8-input words in order, signed values stored with
// 8 added, which makes the stored nibble minus 8 (or minus the stored zero point) the value. Of 8
// bits: 4-input words, and 128.

#include <algorithm>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "kernels/linear/packed_w4.h"
#include "model/formats/byte_codes.h"
#include "model/formats/formats.h"
#include "model/formats/tensor_checks.h"

namespace sheaf {
namespace {

using kernels::kRowBlock;

size_t RowWords(const LinearPlan& plan) {
  const auto codes_a_word = static_cast<size_t>(plan.codes_a_word());
  return (static_cast<size_t>(plan.k) + codes_a_word - 1) / codes_a_word;
}

// The shape of the words tells their bits; `before` holds the dimensions before the rows.
absl::Status PlanWords(std::vector<int64_t> before, int64_t rows, LinearPlan& plan) {
  const TensorInfo& words = *plan.codes;
  SHEAF_RETURN_IF_ERROR(CheckDtype(words, kWordDtypes));
  const int64_t k = plan.k;
  before.push_back(rows);
  std::vector<int64_t> four_bit = before, eight_bit = before;
  four_bit.push_back((k + 7) / 8);
  eight_bit.push_back((k + 3) / 4);
  plan.bits = words.shape == eight_bit && eight_bit != four_bit ? 8 : 4;
  if (plan.bits == 8 || words.shape == four_bit) return absl::OkStatus();
  std::string note;
  if (words.shape.size() == four_bit.size() && (words.shape.back() * 32) % k == 0 &&
      std::equal(before.begin(), before.end(), words.shape.begin())) {
    note = absl::StrFormat(" (%d-bit weights; only 4-bit and 8-bit ones are served)",
                           words.shape.back() * 32 / k);
  }
  return TensorError(words,
                     absl::StrFormat("shape %s of 4-bit words or %s of 8-bit words",
                                     ShapeString(four_bit), ShapeString(eight_bit)),
                     ShapeString(words.shape) + note);
}

// Words of rows, or a signed byte a row; `wanted` holds the dimensions before them.
absl::Status CheckZeros(const LinearPlan& plan, std::vector<int64_t> wanted, int64_t rows,
                        int64_t groups) {
  const bool bytes = plan.zeros->dtype == TensorDtype::kI8;
  if (!bytes) SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.zeros, kWordDtypes));
  const int rows_a_word = plan.codes_a_word();
  wanted.push_back(bytes ? rows : (rows + rows_a_word - 1) / rows_a_word);
  wanted.push_back(groups);
  return CheckShape(*plan.zeros, wanted);
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

absl::Status PlanPackQuantized(const Checkpoint& checkpoint, LinearPlan& plan) {
  plan.format = WeightFormat::kPackQuantized;
  SHEAF_RETURN_IF_ERROR(PlanWords({}, plan.n, plan));
  SHEAF_ASSIGN_OR_RETURN(plan.scales, RequireTensor(checkpoint, plan.prefix + ".weight_scale"));
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.scales, kFloatDtypes));
  const int64_t groups = plan.scales->shape.size() == 2 ? plan.scales->shape[1] : 0;
  plan.group_size = GroupSize(plan.k, groups, plan.group_size);
  if (plan.group_size == 0 || plan.scales->shape[0] != plan.n) {
    return TensorError(
        *plan.scales,
        absl::StrFormat("shape [%d, groups], groups of a multiple of 32 of %d inputs", plan.n,
                        plan.k),
        ShapeString(plan.scales->shape));
  }
  plan.groups = static_cast<int>(groups);
  plan.whole = {plan.n, plan.k};
  plan.shape = checkpoint.Find(plan.prefix + ".weight_shape");
  if (plan.shape != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.shape, {TensorDtype::kI64, TensorDtype::kI32}));
    SHEAF_RETURN_IF_ERROR(CheckShape(*plan.shape, {2}));
  }
  const std::string zeros = plan.prefix + ".weight_zero_point";
  plan.zeros = checkpoint.Find(zeros);
  if (plan.zeros != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckZeros(plan, {}, plan.n, groups));
    plan.zero_points = ZeroPoints::kStored;
  } else if (plan.claim.symmetric == false) {
    return RequireTensor(checkpoint, zeros).status();
  }
  plan.g_idx = checkpoint.Find(plan.prefix + ".weight_g_idx");
  if (plan.g_idx != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.g_idx, {TensorDtype::kI32}));
    SHEAF_RETURN_IF_ERROR(CheckShape(*plan.g_idx, {plan.k}));
  }
  return absl::OkStatus();
}

absl::Status PlanFusedPackQuantized(const Checkpoint& checkpoint, const std::string& base,
                                    const FusedPart& part, LinearPlan& plan) {
  plan.format = WeightFormat::kPackQuantized;
  const bool dotted = checkpoint.Find(base + ".weight_packed") != nullptr;
  const std::string stem = base + (dotted ? ".weight_" : "_");
  const int64_t experts = part.num_experts;
  const auto first_row = static_cast<uint64_t>(part.expert) * part.rows + part.first_row;
  SHEAF_ASSIGN_OR_RETURN(plan.codes, RequireTensor(checkpoint, stem + "packed"));
  SHEAF_RETURN_IF_ERROR(PlanWords({experts}, part.rows, plan));
  plan.codes_offset = first_row * RowWords(plan) * sizeof(uint32_t);

  SHEAF_ASSIGN_OR_RETURN(plan.scales, RequireTensor(checkpoint, stem + "scale"));
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.scales, kFloatDtypes));
  const int64_t groups = plan.scales->shape.size() == 3 ? plan.scales->shape[2] : 0;
  plan.group_size = GroupSize(part.k, groups, plan.group_size);
  if (plan.group_size == 0) {
    return TensorError(*plan.scales,
                       absl::StrFormat("shape [%d, %d, groups], groups of a multiple of 32 of %d "
                                       "inputs",
                                       experts, part.rows, part.k),
                       ShapeString(plan.scales->shape));
  }
  SHEAF_RETURN_IF_ERROR(CheckShape(*plan.scales, {experts, part.rows, groups}));
  plan.groups = static_cast<int>(groups);
  plan.scales_offset = first_row * groups * DtypeBytes(plan.scales->dtype);

  plan.whole = {experts, part.rows, part.k};
  plan.shape = checkpoint.Find(stem + "shape");
  if (plan.shape != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.shape, {TensorDtype::kI64, TensorDtype::kI32}));
    const bool of_one = plan.shape->shape == std::vector<int64_t>{2};
    SHEAF_RETURN_IF_ERROR(CheckShape(*plan.shape, {of_one ? 2 : 3}));
  }
  plan.zeros = checkpoint.Find(stem + "zero_point");
  if (plan.zeros != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckZeros(plan, {experts}, part.rows, groups));
    plan.zero_points = ZeroPoints::kStored;
    const bool packed = plan.zeros->dtype != TensorDtype::kI8;
    const int rows_a_word = plan.codes_a_word();
    if (packed && part.first_row % rows_a_word != 0) {
      return TensorError(*plan.zeros,
                         absl::StrFormat("parts of a multiple of %d rows", rows_a_word),
                         absl::StrFormat("a part from row %d on", part.first_row));
    }
    const uint64_t rows_before = packed ? static_cast<uint64_t>(part.expert) *
                                                  ((part.rows + rows_a_word - 1) / rows_a_word) +
                                              part.first_row / rows_a_word
                                        : first_row;
    plan.zeros_offset = rows_before * groups * DtypeBytes(plan.zeros->dtype);
  } else if (plan.claim.symmetric == false) {
    return RequireTensor(checkpoint, stem + "zero_point").status();
  }
  plan.g_idx = checkpoint.Find(stem + "g_idx");
  if (plan.g_idx != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.g_idx, {TensorDtype::kI32}));
    if (plan.g_idx->shape != std::vector<int64_t>{part.k}) {
      SHEAF_RETURN_IF_ERROR(CheckShape(*plan.g_idx, {experts, part.k}));
      plan.g_idx_offset = static_cast<uint64_t>(part.expert) * part.k * sizeof(int32_t);
    }
  }
  return absl::OkStatus();
}

void UnpackPackQuantized(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
                         const WeightGroups& groups, uint32_t* codes) {
  if (plan.bits == 8) {
    UnpackRowsOfBytes(words, RowWords(plan) * sizeof(uint32_t), /*flip=*/0, range, groups, codes);
  } else if (groups.permutation.empty()) {
    MoveWords(words, plan, range, codes);
  } else {
    GatherNibbles(words, plan, range, groups.permutation, codes);
  }
}

int PackQuantizedZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group) {
  if (plan.zeros->dtype == TensorDtype::kI8) {
    return static_cast<int8_t>(zeros[static_cast<size_t>(row) * plan.groups + group]) +
           plan.symmetric_zero();
  }
  const int rows_a_word = plan.codes_a_word();
  const size_t word = static_cast<size_t>(row / rows_a_word) * plan.groups + group;
  return CodeOfWords(zeros + word * sizeof(uint32_t), static_cast<size_t>(row % rows_a_word),
                     plan.bits);
}

}  // namespace sheaf

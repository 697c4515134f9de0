// FP8 weights (e4m3fn) with a scale for each block, row or tensor: kept as they are, scales as
// float32.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "kernels/linear/dense_matrix.h"
#include "model/formats/formats.h"
#include "model/formats/tensor_checks.h"

namespace sheaf {
namespace {

constexpr float kLargestE4M3 = 448;
constexpr std::initializer_list<TensorDtype> kScaleDtypes = {
    TensorDtype::kF32, TensorDtype::kBF16, TensorDtype::kF16, TensorDtype::kF8E8M0,
    TensorDtype::kU8};

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The side of a block where `blocks` of them cover `size` elements: what the config says if that
// fits, or the one power of two that does. 0: none.
int BlockSide(int64_t size, int64_t blocks, int said) {
  if (blocks == 1) return static_cast<int>(size);
  if (blocks < 1 || blocks > size) return 0;
  if (said > 0 && CeilDivide(size, said) == blocks) return said;
  for (int64_t side = 1; side <= size; side *= 2) {
    if (CeilDivide(size, side) == blocks) return static_cast<int>(side);
  }
  return 0;
}

// Tools scale a tensor, each row, groups of inputs of a row, or square blocks; anything else is
// more likely a transposed or damaged tensor, unless the config says it.
bool IsKnownBlock(const std::vector<int64_t>& blocks, int64_t n, int64_t k, const Fp8Scales& fp8,
                  const QuantizationHints& hints) {
  const bool whole = blocks[0] == 1 && blocks[1] == 1;
  if (whole || fp8.block_rows == 1) return true;
  if (fp8.block_rows == hints.block_rows && fp8.block_columns == hints.block_columns) return true;
  const int side = blocks[0] > 1 ? fp8.block_rows : fp8.block_columns;
  return (blocks[0] > 1 ? fp8.block_rows == side : n <= side) &&
         (blocks[1] > 1 ? fp8.block_columns == side : k <= side);
}

// `shape`: of the scales of one matrix [n][k].
absl::Status PlanBlocks(const QuantizationHints& hints, std::vector<int64_t> shape, int64_t n,
                        int64_t k, LinearPlan& plan) {
  const auto error = [&] {
    return TensorError(
        *plan.scales,
        absl::StrFormat("a scale for a tensor, row, group or square block of FP8 [%d, %d]", n, k),
        "shape " + ShapeString(plan.scales->shape));
  };
  if (shape.size() == 1 && shape[0] == n) shape.push_back(1);
  if (std::all_of(shape.begin(), shape.end(), [](int64_t side) { return side == 1; })) {
    shape = {1, 1};
  }
  if (shape.size() != 2) return error();
  Fp8Scales& fp8 = plan.fp8;
  fp8.block_rows = BlockSide(n, shape[0], hints.block_rows);
  fp8.block_columns = BlockSide(k, shape[1], hints.block_columns);
  if (fp8.block_rows == 0 || fp8.block_columns == 0) return error();
  if (!IsKnownBlock(shape, n, k, fp8, hints)) return error();
  fp8.stride = static_cast<int>(shape[1]);
  plan.groups = fp8.stride;
  plan.group_size = fp8.block_columns;
  return absl::OkStatus();
}

// The one that is there of NAME + _scale_inv (which multiplies, whatever it is called) and NAME +
// _scale.
absl::Status FindScales(const Checkpoint& checkpoint, LinearPlan& plan) {
  const std::string& name = plan.codes->name;
  plan.scales = checkpoint.Find(name + "_scale_inv");
  const TensorInfo* const other = checkpoint.Find(name + "_scale");
  if (plan.scales == nullptr) {
    plan.scales = other;
  } else if (other != nullptr) {
    return TensorError(*other, "one tensor of scales", "two: also " + plan.scales->name);
  }
  if (plan.scales == nullptr) {
    return absl::NotFoundError(
        absl::StrFormat("%s: tensor %s: missing its scales: wanted %s_scale_inv or %s_scale",
                        plan.codes->file, name, name, name));
  }
  return CheckDtype(*plan.scales, kScaleDtypes);
}

// A power of two, 255 is NaN: the scales of microscaling formats.
float E8M0ToFloat(uint8_t code) {
  return code == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0f, code - 127);
}

void WidenScales(const uint8_t* in, TensorDtype dtype, size_t count, float* out) {
  switch (dtype) {
    case TensorDtype::kF8E8M0:
    case TensorDtype::kU8:
      for (size_t i = 0; i < count; ++i) out[i] = E8M0ToFloat(in[i]);
      return;
    case TensorDtype::kBF16:
      return kernels::WidenToFloat(in, kernels::FloatFormat::kBF16, count, out);
    case TensorDtype::kF16:
      return kernels::WidenToFloat(in, kernels::FloatFormat::kF16, count, out);
    default:
      return kernels::WidenToFloat(in, kernels::FloatFormat::kF32, count, out);
  }
}

// Blocks of the scaled matrix that the part touches.
struct BlockRange {
  int first_row = 0;
  int num_rows = 0;
  int first_column = 0;
  int num_columns = 0;
};

BlockRange BlocksOf(const LinearPlan& plan, const UnpackRange& range) {
  const Fp8Scales& fp8 = plan.fp8;
  const int row = fp8.first_row + range.first_row;
  BlockRange blocks;
  blocks.first_row = row / fp8.block_rows;
  blocks.num_rows = (row + range.num_rows - 1) / fp8.block_rows - blocks.first_row + 1;
  blocks.first_column = range.first_column / fp8.block_columns;
  blocks.num_columns = (range.first_column + range.num_columns - 1) / fp8.block_columns -
                       blocks.first_column + 1;
  return blocks;
}

}  // namespace

absl::Status PlanFp8(const Checkpoint& checkpoint, const QuantizationHints& hints,
                     LinearPlan& plan) {
  plan.format = WeightFormat::kFp8;
  SHEAF_RETURN_IF_ERROR(CheckShape(*plan.codes, {plan.n, plan.k}));
  SHEAF_RETURN_IF_ERROR(FindScales(checkpoint, plan));
  return PlanBlocks(hints, plan.scales->shape, plan.n, plan.k, plan);
}

absl::Status PlanFusedFp8(const Checkpoint& checkpoint, const QuantizationHints& hints, int rows,
                          int expert, int first_row, LinearPlan& plan) {
  plan.format = WeightFormat::kFp8;
  SHEAF_RETURN_IF_ERROR(FindScales(checkpoint, plan));
  std::vector<int64_t> shape = plan.scales->shape;
  const int64_t num_experts = plan.codes->shape[0];
  // Scales of each expert, or one for all of them.
  const bool by_expert = !shape.empty() && shape[0] == num_experts;
  if (by_expert) shape.erase(shape.begin());
  SHEAF_RETURN_IF_ERROR(PlanBlocks(hints, shape, rows, plan.k, plan));
  if (by_expert) {
    plan.fp8.first = static_cast<uint64_t>(expert) * CeilDivide(rows, plan.fp8.block_rows) *
                     static_cast<uint64_t>(plan.fp8.stride);
    plan.scales_offset = plan.fp8.first * DtypeBytes(plan.scales->dtype);
  }
  plan.fp8.first_row = first_row;
  return absl::OkStatus();
}

uint64_t Fp8ScaleBytes(const LinearPlan& plan) {
  const Fp8Scales& fp8 = plan.fp8;
  const auto blocks = static_cast<uint64_t>(CeilDivide(fp8.first_row + plan.n, fp8.block_rows) -
                                            CeilDivide(fp8.first_row, fp8.block_rows));
  return blocks * static_cast<uint64_t>(fp8.stride) * DtypeBytes(plan.scales->dtype);
}

size_t Fp8ScaleCount(const LinearPlan& plan, const UnpackRange& range) {
  const BlockRange blocks = BlocksOf(plan, range);
  return static_cast<size_t>(blocks.num_rows) * blocks.num_columns;
}

absl::StatusOr<kernels::BlockScales> ReadFp8Scales(const Checkpoint& checkpoint,
                                                   const LinearPlan& plan,
                                                   const UnpackRange& range, float* out) {
  const Fp8Scales& fp8 = plan.fp8;
  const BlockRange blocks = BlocksOf(plan, range);
  const size_t element = DtypeBytes(plan.scales->dtype);
  const size_t row_bytes = static_cast<size_t>(fp8.stride) * element;
  const size_t first_byte = static_cast<size_t>(blocks.first_column) * element;
  std::vector<uint8_t> bytes(static_cast<size_t>(blocks.num_rows) * row_bytes);
  SHEAF_RETURN_IF_ERROR(checkpoint.Read(
      *plan.scales,
      fp8.first * element + static_cast<uint64_t>(blocks.first_row) * row_bytes, bytes));
  for (int row = 0; row < blocks.num_rows; ++row) {
    float* const line = out + static_cast<size_t>(row) * blocks.num_columns;
    WidenScales(bytes.data() + row * row_bytes + first_byte, plan.scales->dtype,
                static_cast<size_t>(blocks.num_columns), line);
    for (int column = 0; column < blocks.num_columns; ++column) {
      // Also no scale whose largest weight would be Inf.
      if (std::isfinite(line[column] * kLargestE4M3)) continue;
      return TensorError(*plan.scales, "finite scales",
                         absl::StrFormat("%g at block row %d, block column %d", line[column],
                                         blocks.first_row + row, blocks.first_column + column));
    }
  }
  return kernels::BlockScales{out,
                              fp8.block_rows,
                              fp8.block_columns,
                              blocks.num_columns,
                              (fp8.first_row + range.first_row) % fp8.block_rows,
                              range.first_column % fp8.block_columns};
}

size_t FirstE4M3Nan(std::span<const uint8_t> codes) {
  constexpr size_t kAtOnce = 4096;
  const auto is_nan = [](uint8_t code) { return (code & 0x7F) == 0x7F; };
  size_t at = 0;
  for (; at < codes.size(); at += kAtOnce) {
    const size_t end = std::min(codes.size(), at + kAtOnce);
    uint8_t any = 0;  // without a branch, so that it becomes vector code
    for (size_t i = at; i < end; ++i) any |= static_cast<uint8_t>(is_nan(codes[i]));
    if (any != 0) break;
  }
  while (at < codes.size() && !is_nan(codes[at])) ++at;
  return std::min(at, codes.size());
}

}  // namespace sheaf

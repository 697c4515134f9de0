#include "model/linear_loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "kernels/packed_w4.h"
#include "model/formats/formats.h"
#include "model/formats/tensor_checks.h"

namespace sheaf {

using kernels::kRowBlock;
using kernels::Linear;
using kernels::PackedW4;

struct LoadedLinear::Memory {
  std::shared_ptr<PackedArena> arena;
  size_t bytes = 0;
};

LoadedLinear::LoadedLinear() = default;
LoadedLinear::LoadedLinear(LoadedLinear&&) noexcept = default;
LoadedLinear& LoadedLinear::operator=(LoadedLinear&&) noexcept = default;
LoadedLinear::~LoadedLinear() = default;

size_t LoadedLinear::owned_bytes() const { return memory_ == nullptr ? 0 : memory_->bytes; }

namespace {

constexpr int kMinSegment = 32;

LinearSlice Resolved(const LinearPlan& plan, LinearSlice slice) {
  if (slice.num_rows == 0) slice.num_rows = plan.n - slice.first_row;
  if (slice.num_columns == 0) slice.num_columns = plan.k - slice.first_column;
  return slice;
}

bool IsWholeRows(const LinearPlan& plan, const LinearSlice& slice) {
  return slice.first_column == 0 && slice.num_columns == plan.k;
}

absl::Status CheckSlice(const LinearPlan& plan, const LinearSlice& slice) {
  const bool inside = slice.first_row >= 0 && slice.num_rows > 0 && slice.first_column >= 0 &&
                      slice.num_columns > 0 && slice.num_rows <= plan.n - slice.first_row &&
                      slice.num_columns <= plan.k - slice.first_column;
  if (!inside) {
    return TensorError(*plan.codes, absl::StrFormat("a part of [%d, %d]", plan.n, plan.k),
                       absl::StrFormat("rows %d + %d, columns %d + %d", slice.first_row,
                                       slice.num_rows, slice.first_column, slice.num_columns));
  }
  if (plan.quantized() && !IsWholeRows(plan, slice) &&
      (slice.first_column % kernels::kActivationGroup != 0 ||
       slice.num_columns % kernels::kActivationGroup != 0)) {
    return TensorError(
        *plan.codes,
        absl::StrFormat("columns cut at multiples of %d for this head range",
                        kernels::kActivationGroup),
        absl::StrFormat("columns %d + %d of %d", slice.first_column, slice.num_columns, plan.k));
  }
  return absl::OkStatus();
}

kernels::FloatFormat ToFloatFormat(TensorDtype dtype) {
  switch (dtype) {
    case TensorDtype::kBF16:
      return kernels::FloatFormat::kBF16;
    case TensorDtype::kF16:
      return kernels::FloatFormat::kF16;
    default:
      return kernels::FloatFormat::kF32;
  }
}

kernels::ScaleFormat ToScaleFormat(TensorDtype dtype) {
  switch (dtype) {
    case TensorDtype::kBF16:
      return kernels::ScaleFormat::kBF16;
    case TensorDtype::kF16:
      return kernels::ScaleFormat::kF16;
    default:
      return kernels::ScaleFormat::kF32;
  }
}

// Copies scales into [row block][segment][16] as they are; any with all exponent bits set is NaN or
// Inf.
template <typename Bits>
absl::Status CopyScales(const Checkpoint& checkpoint, const LinearPlan& plan,
                        const LinearSlice& slice, const WeightGroups& groups, Bits exponent_mask,
                        Bits* out) {
  const uint8_t* const source = checkpoint.Bytes(*plan.scales).data();
  const bool by_row =
      plan.format == WeightFormat::kPackQuantized;  // [n][groups]; otherwise [groups][n]
  const size_t row_stride = by_row ? static_cast<size_t>(plan.groups) : 1;
  const size_t group_stride = by_row ? 1 : static_cast<size_t>(plan.n);
  for (int row = 0; row < slice.num_rows; row += kRowBlock) {
    const int rows = std::min(kRowBlock, slice.num_rows - row);
    for (const int32_t group : groups.group_of_segment) {
      if (group >= 0) {
        const uint8_t* in = source + ((static_cast<size_t>(slice.first_row) + row) * row_stride +
                                      static_cast<size_t>(group) * group_stride) *
                                         sizeof(Bits);
        bool finite = true;
        for (int r = 0; r < rows; ++r, in += row_stride * sizeof(Bits)) {
          std::memcpy(&out[r], in, sizeof(Bits));
          finite = finite && (out[r] & exponent_mask) != exponent_mask;
        }
        if (!finite) {
          int bad = 0;
          while ((out[bad] & exponent_mask) != exponent_mask) ++bad;
          return TensorError(*plan.scales, "finite scales",
                             absl::StrFormat("NaN or Inf at output row %d, group %d",
                                             slice.first_row + row + bad, group));
        }
      }
      out += kRowBlock;
    }
  }
  return absl::OkStatus();
}

absl::Status CopyScales(const Checkpoint& checkpoint, const LinearPlan& plan,
                        const LinearSlice& slice, const WeightGroups& groups, void* out) {
  switch (plan.scales->dtype) {
    case TensorDtype::kF16:
      return CopyScales<uint16_t>(checkpoint, plan, slice, groups, 0x7C00,
                                  static_cast<uint16_t*>(out));
    case TensorDtype::kBF16:
      return CopyScales<uint16_t>(checkpoint, plan, slice, groups, 0x7F80,
                                  static_cast<uint16_t*>(out));
    default:
      return CopyScales<uint32_t>(checkpoint, plan, slice, groups, 0x7F800000,
                                  static_cast<uint32_t*>(out));
  }
}

int ZeroPoint(const uint8_t* zeros, const LinearPlan& plan, int row, int group) {
  switch (plan.format) {
    case WeightFormat::kGptq:
      return GptqZero(zeros, plan, row, group);
    case WeightFormat::kAwq:
      return AwqZero(zeros, plan, row, group);
    default:
      return PackQuantizedZero(zeros, plan, row, group);
  }
}

// Zero points in [row block][segment][16], or nothing when they are all 8: the kernels' cheaper
// case.
std::vector<uint8_t> ReadZeros(const Checkpoint& checkpoint, const LinearPlan& plan,
                               const LinearSlice& slice, const WeightGroups& groups) {
  std::vector<uint8_t> out;
  if (plan.zero_points == ZeroPoints::kSymmetric) return out;
  const uint8_t* const source = checkpoint.Bytes(*plan.zeros).data();
  out.resize(static_cast<size_t>(kernels::NumRowBlocks(slice.num_rows)) *
             groups.group_of_segment.size() * kRowBlock);
  bool symmetric = true;
  size_t at = 0;
  for (int row = 0; row < slice.num_rows; row += kRowBlock) {
    const int rows = std::min(kRowBlock, slice.num_rows - row);
    for (const int32_t group : groups.group_of_segment) {
      for (int r = 0; group >= 0 && r < rows; ++r) {
        const int zero = ZeroPoint(source, plan, slice.first_row + row + r, group);
        symmetric = symmetric && zero == 8;
        out[at + r] = static_cast<uint8_t>(zero);
      }
      at += kRowBlock;
    }
  }
  if (symmetric) out.clear();
  return out;
}

absl::Status CheckStoredShape(const Checkpoint& checkpoint, const LinearPlan& plan) {
  if (plan.shape == nullptr) return absl::OkStatus();
  std::vector<int64_t> stored(2);
  const uint8_t* const bytes = checkpoint.Bytes(*plan.shape).data();
  if (plan.shape->dtype == TensorDtype::kI64) {
    std::memcpy(stored.data(), bytes, 16);
  } else {
    int32_t narrow[2];
    std::memcpy(narrow, bytes, 8);
    stored = {narrow[0], narrow[1]};
  }
  const std::vector<int64_t> wanted = {plan.n, plan.k};
  if (stored == wanted) return absl::OkStatus();
  return TensorError(*plan.shape, "the values " + ShapeString(wanted), ShapeString(stored));
}

// The first `count` elements from `first` on, widened; NaN and Inf are errors.
absl::Status WidenFinite(const Checkpoint& checkpoint, const TensorInfo& tensor, int first,
                         int count, float* out) {
  kernels::WidenToFloat(
      checkpoint.Bytes(tensor).data() + static_cast<size_t>(first) * DtypeBytes(tensor.dtype),
      ToFloatFormat(tensor.dtype), static_cast<size_t>(count), out);
  for (int i = 0; i < count; ++i) {
    if (!std::isfinite(out[i])) {
      return TensorError(tensor, "finite values",
                         absl::StrFormat("NaN or Inf at element %d", first + i));
    }
  }
  return absl::OkStatus();
}

}  // namespace

// Fills one LoadedLinear; its allocations come from one arena.
class LinearBuilder {
 public:
  LinearBuilder(const Checkpoint& checkpoint, const LinearPlan& plan, const LinearSlice& slice,
                std::shared_ptr<PackedArena> arena)
      : checkpoint_(checkpoint), plan_(plan), slice_(slice) {
    linear_.memory_ = std::make_unique<LoadedLinear::Memory>();
    linear_.memory_->arena = std::move(arena);
  }

  absl::StatusOr<LoadedLinear> Build() {
    SHEAF_RETURN_IF_ERROR(plan_.quantized() ? BuildPacked() : BuildDense());
    SHEAF_RETURN_IF_ERROR(BuildBias());
    return std::move(linear_);
  }

 private:
  template <typename T>
  T* Allocate(size_t count) {
    linear_.memory_->bytes += PackedArena::Rounded(count * sizeof(T));
    return static_cast<T*>(linear_.memory_->arena->Allocate(count * sizeof(T)));
  }

  absl::Status BuildPacked() {
    SHEAF_RETURN_IF_ERROR(CheckStoredShape(checkpoint_, plan_));
    SHEAF_ASSIGN_OR_RETURN(
        const WeightGroups groups,
        ReadWeightGroups(checkpoint_, plan_, slice_.first_column, slice_.num_columns));
    if (!groups.permutation.empty() && !IsWholeRows(plan_, slice_)) {
      return TensorError(*plan_.g_idx, "groups in order for a part of the columns",
                         "a g_idx that permutes them");
    }
    linear_.view_.storage = Linear::Storage::kW4;
    PackedW4& w4 = linear_.view_.w4;
    w4.n = slice_.num_rows;
    w4.k = slice_.num_columns;
    w4.segment = groups.segment;
    w4.scale_format = ToScaleFormat(plan_.scales->dtype);

    auto* const scales = Allocate<uint8_t>(w4.scale_count() * kernels::ScaleBytes(w4.scale_format));
    SHEAF_RETURN_IF_ERROR(CopyScales(checkpoint_, plan_, slice_, groups, scales));
    w4.scales = scales;
    if (const std::vector<uint8_t> zeros = ReadZeros(checkpoint_, plan_, slice_, groups);
        !zeros.empty()) {
      auto* const copy = Allocate<uint8_t>(zeros.size());
      std::copy(zeros.begin(), zeros.end(), copy);
      w4.zeros = copy;
    }
    if (!groups.permutation.empty()) {
      auto* const copy = Allocate<int32_t>(groups.permutation.size());
      std::copy(groups.permutation.begin(), groups.permutation.end(), copy);
      w4.permutation = copy;
    }
    auto* const nibbles = Allocate<uint32_t>(w4.nibble_bytes() / sizeof(uint32_t));
    Unpack(groups, nibbles);
    w4.nibbles = reinterpret_cast<const uint8_t*>(nibbles);
    plan_.ForEachTensor([&](const TensorInfo& tensor) {
      if (&tensor != plan_.bias) checkpoint_.DropMapping(tensor);
    });
    return absl::OkStatus();
  }

  void Unpack(const WeightGroups& groups, uint32_t* nibbles) const {
    const uint8_t* const words = checkpoint_.Bytes(*plan_.codes).data();
    const UnpackRange range = {slice_.first_row, slice_.num_rows, slice_.first_column,
                               slice_.num_columns};
    switch (plan_.format) {
      case WeightFormat::kGptq:
        return UnpackGptq(words, plan_, range, groups, nibbles);
      case WeightFormat::kAwq:
        return UnpackAwq(words, plan_, range, nibbles);
      default:
        return UnpackPackQuantized(words, plan_, range, groups, nibbles);
    }
  }

  absl::Status BuildDense() {
    const size_t element = DtypeBytes(plan_.codes->dtype);
    const size_t row_bytes = static_cast<size_t>(plan_.k) * element;
    const uint8_t* const first =
        checkpoint_.Bytes(*plan_.codes).data() + plan_.plain_offset + slice_.first_row * row_bytes;
    linear_.view_.storage = Linear::Storage::kDense;
    kernels::DenseMatrix& dense = linear_.view_.dense;
    dense.n = slice_.num_rows;
    dense.k = slice_.num_columns;
    dense.format = ToFloatFormat(plan_.codes->dtype);
    if (IsWholeRows(plan_, slice_)) {
      dense.data = first;
      return absl::OkStatus();
    }
    // A DenseMatrix has no row stride, so a part of the columns is copied.
    const size_t part_bytes = static_cast<size_t>(slice_.num_columns) * element;
    auto* const copy = Allocate<uint8_t>(part_bytes * slice_.num_rows);
    for (int row = 0; row < slice_.num_rows; ++row) {
      std::memcpy(copy + row * part_bytes, first + row * row_bytes + slice_.first_column * element,
                  part_bytes);
    }
    dense.data = copy;
    checkpoint_.DropMapping(*plan_.codes);
    return absl::OkStatus();
  }

  // Some writers give every Linear a bias of zeros; dropping it saves the addition.
  absl::Status BuildBias() {
    if (plan_.bias == nullptr) return absl::OkStatus();
    auto* const bias = Allocate<float>(static_cast<size_t>(slice_.num_rows));
    SHEAF_RETURN_IF_ERROR(
        WidenFinite(checkpoint_, *plan_.bias, slice_.first_row, slice_.num_rows, bias));
    if (std::any_of(bias, bias + slice_.num_rows, [](float value) { return value != 0.0f; })) {
      linear_.view_.bias = bias;
    }
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const LinearPlan& plan_;
  const LinearSlice slice_;
  LoadedLinear linear_;
};

size_t MaxArenaBytes(const LinearPlan& plan, const LinearSlice& unresolved) {
  const LinearSlice slice = Resolved(plan, unresolved);
  size_t bytes = plan.bias == nullptr ? 0 : PackedArena::Rounded(slice.num_rows * sizeof(float));
  if (!plan.quantized()) {
    if (!IsWholeRows(plan, slice)) {
      bytes += PackedArena::Rounded(static_cast<size_t>(slice.num_rows) * slice.num_columns *
                                    DtypeBytes(plan.codes->dtype));
    }
    return bytes;
  }
  const size_t rows = static_cast<size_t>(kernels::NumRowBlocks(slice.num_rows)) * kRowBlock;
  const size_t padded_k = static_cast<size_t>(kernels::PaddedK(slice.num_columns));
  const size_t segments = padded_k / kMinSegment;
  bytes += PackedArena::Rounded(rows * padded_k / 2);
  bytes += PackedArena::Rounded(rows * segments * DtypeBytes(plan.scales->dtype));
  bytes += PackedArena::Rounded(rows * segments);  // zeros
  bytes += PackedArena::Rounded(static_cast<size_t>(slice.num_columns) *
                                sizeof(int32_t));  // permutation
  return bytes;
}

absl::StatusOr<LoadedLinear> LoadPlannedLinear(const Checkpoint& checkpoint, const LinearPlan& plan,
                                               const LinearSlice& unresolved,
                                               const std::shared_ptr<PackedArena>& arena) {
  const LinearSlice slice = Resolved(plan, unresolved);
  SHEAF_RETURN_IF_ERROR(CheckSlice(plan, slice));
  return LinearBuilder(checkpoint, plan, slice, arena).Build();
}

absl::StatusOr<LoadedLinear> LoadLinear(const Checkpoint& checkpoint,
                                        const QuantizationHints& hints, const std::string& prefix,
                                        int n, int k) {
  SHEAF_ASSIGN_OR_RETURN(const LinearPlan plan, PlanLinear(checkpoint, hints, prefix, n, k));
  SHEAF_ASSIGN_OR_RETURN(std::shared_ptr<PackedArena> arena,
                         PackedArena::Reserve(MaxArenaBytes(plan, {})));
  return LoadPlannedLinear(checkpoint, plan, {}, arena);
}

absl::StatusOr<std::vector<float>> LoadFloats(const Checkpoint& checkpoint, const std::string& name,
                                              int count) {
  SHEAF_ASSIGN_OR_RETURN(const TensorInfo* const tensor, RequireTensor(checkpoint, name));
  SHEAF_RETURN_IF_ERROR(CheckDtype(*tensor, kFloatDtypes));
  SHEAF_RETURN_IF_ERROR(CheckShape(*tensor, {count}));
  std::vector<float> values(static_cast<size_t>(count));
  SHEAF_RETURN_IF_ERROR(WidenFinite(checkpoint, *tensor, 0, count, values.data()));
  return values;
}

}  // namespace sheaf

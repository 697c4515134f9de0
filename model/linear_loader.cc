#include "model/linear_loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/status.h"
#include "kernels/linear/packed_integers.h"
#include "model/formats/byte_codes.h"
#include "model/formats/formats.h"
#include "model/formats/tensor_checks.h"
#include "model/int8_rows.h"
#include "model/quantization/zero_points.h"

namespace sheaf {

using kernels::kRowBlock;
using kernels::Linear;

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
constexpr int kRowsAWord = 8;  // at most
constexpr size_t kCheckedBytes = size_t{1} << 20;

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
  if (plan.packed() && !IsWholeRows(plan, slice) &&
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
    case TensorDtype::kF8E4M3:
      return kernels::FloatFormat::kE4M3;
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

// Rows of an integer matrix that are repacked together, as a matrix of their own.
struct Piece {
  LinearPlan plan;      // of the piece: its n is the piece's
  UnpackRange range;    // within the piece
  int row_in_file = 0;  // of the piece's first row
  std::span<const uint8_t> codes, scales;
};

// Copies scales into [row block][segment][16] as they are; any with all exponent bits set is NaN or
// Inf.
template <typename Bits>
absl::Status CopyScales(const Piece& piece, const WeightGroups& groups, Bits exponent_mask,
                        Bits* out) {
  const LinearPlan& plan = piece.plan;
  const bool by_row = ScaleAxis(plan.format) == RowAxis::kFirst;
  const size_t row_stride = by_row ? static_cast<size_t>(plan.groups) : 1;
  const size_t group_stride = by_row ? 1 : static_cast<size_t>(plan.n);
  for (int row = 0; row < piece.range.num_rows; row += kRowBlock) {
    const int rows = std::min(kRowBlock, piece.range.num_rows - row);
    for (const int32_t group : groups.group_of_segment) {
      if (group >= 0) {
        const uint8_t* in = piece.scales.data() +
                            ((static_cast<size_t>(piece.range.first_row) + row) * row_stride +
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
          return TensorError(
              *plan.scales, "finite scales",
              absl::StrFormat("NaN or Inf at output row %d, group %d",
                              piece.row_in_file + piece.range.first_row + row + bad, group));
        }
      }
      out += kRowBlock;
    }
  }
  return absl::OkStatus();
}

absl::Status CopyScales(const Piece& piece, const WeightGroups& groups, uint8_t* out) {
  switch (piece.plan.scales->dtype) {
    case TensorDtype::kF16:
      return CopyScales<uint16_t>(piece, groups, 0x7C00, reinterpret_cast<uint16_t*>(out));
    case TensorDtype::kBF16:
      return CopyScales<uint16_t>(piece, groups, 0x7F80, reinterpret_cast<uint16_t*>(out));
    default:
      return CopyScales<uint32_t>(piece, groups, 0x7F800000, reinterpret_cast<uint32_t*>(out));
  }
}

int ZeroPoint(const uint8_t* zeros, const LinearPlan& plan, int row, int group) {
  switch (plan.format) {
    case WeightFormat::kGptq:
      return GptqZero(zeros, plan, row, group);
    case WeightFormat::kAwq:
      return AwqZero(zeros, plan, row, group);
    case WeightFormat::kIntQuantized:
      return IntQuantizedZero(zeros, plan, row, group);
    default:
      return PackQuantizedZero(zeros, plan, row, group);
  }
}

// Zero points in [row block][segment][16], of the slice's rows of the whole matrix; false when they
// are all 8 (128 of 8 bits), the kernels' cheaper case.
bool CopyZeros(const LinearPlan& plan, const LinearSlice& slice, std::span<const uint8_t> stored,
               const WeightGroups& groups, uint8_t* out) {
  bool asymmetric = false;
  for (int row = 0; row < slice.num_rows; row += kRowBlock) {
    const int rows = std::min(kRowBlock, slice.num_rows - row);
    for (const int32_t group : groups.group_of_segment) {
      for (int r = 0; group >= 0 && r < rows; ++r) {
        const int zero = ZeroPoint(stored.data(), plan, slice.first_row + row + r, group);
        asymmetric = asymmetric || zero != plan.symmetric_zero();
        out[r] = static_cast<uint8_t>(zero);
      }
      out += kRowBlock;
    }
  }
  return asymmetric;
}

void UnpackCodes(const Piece& piece, const WeightGroups& groups, uint32_t* codes) {
  switch (piece.plan.format) {
    case WeightFormat::kGptq:
      return UnpackGptq(piece.codes.data(), piece.plan, piece.range, groups, codes);
    case WeightFormat::kAwq:
      return UnpackAwq(piece.codes.data(), piece.plan, piece.range, codes);
    case WeightFormat::kIntQuantized:
      return UnpackIntQuantized(piece.codes.data(), piece.plan, piece.range, groups, codes);
    default:
      return UnpackPackQuantized(piece.codes.data(), piece.plan, piece.range, groups, codes);
  }
}

// Position of the first NaN or Inf; the number of elements if there is none.
template <typename Bits>
size_t FirstWithExponent(std::span<const uint8_t> bytes, Bits mask) {
  constexpr size_t kRun = 1024;  // a run without branches, for the vectorizer
  const size_t count = bytes.size() / sizeof(Bits);
  for (size_t begin = 0; begin < count; begin += kRun) {
    const size_t end = std::min(count, begin + kRun);
    const auto bad = [&](size_t i) -> Bits {
      Bits bits;
      std::memcpy(&bits, bytes.data() + i * sizeof(Bits), sizeof(Bits));
      return (bits & mask) == mask ? 1 : 0;
    };
    Bits any = 0;
    for (size_t i = begin; i < end; ++i) any = any | bad(i);
    if (any == 0) continue;
    for (size_t i = begin; i < end; ++i) {
      if (bad(i) != 0) return i;
    }
  }
  return count;
}

size_t FirstNotFinite(std::span<const uint8_t> bytes, kernels::FloatFormat format) {
  switch (format) {
    case kernels::FloatFormat::kF16:
      return FirstWithExponent<uint16_t>(bytes, 0x7C00);
    case kernels::FloatFormat::kBF16:
      return FirstWithExponent<uint16_t>(bytes, 0x7F80);
    case kernels::FloatFormat::kE4M3:
      return FirstE4M3Nan(bytes);
    default:
      return FirstWithExponent<uint32_t>(bytes, 0x7F800000);
  }
}

absl::Status CheckStoredShape(const Checkpoint& checkpoint, const LinearPlan& plan) {
  if (plan.shape == nullptr) return absl::OkStatus();
  const auto count = static_cast<size_t>(plan.shape->shape[0]);
  std::vector<int64_t> stored(count);
  SHEAF_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, checkpoint.ReadAll(*plan.shape));
  for (size_t i = 0; i < count; ++i) {
    if (plan.shape->dtype == TensorDtype::kI64) {
      std::memcpy(&stored[i], bytes.data() + 8 * i, 8);
    } else {
      int32_t narrow = 0;
      std::memcpy(&narrow, bytes.data() + 4 * i, 4);
      stored[i] = narrow;
    }
  }
  const std::vector<int64_t> wanted(plan.whole.end() - static_cast<ptrdiff_t>(count),
                                    plan.whole.end());
  if (stored == wanted) return absl::OkStatus();
  return TensorError(*plan.shape, "the values " + ShapeString(wanted), ShapeString(stored));
}

// The first `count` elements from `first` on, widened; NaN and Inf are errors.
absl::Status WidenFinite(const Checkpoint& checkpoint, const TensorInfo& tensor, int first,
                         int count, float* out) {
  const size_t element = DtypeBytes(tensor.dtype);
  std::vector<uint8_t> bytes(static_cast<size_t>(count) * element);
  SHEAF_RETURN_IF_ERROR(checkpoint.Read(tensor, static_cast<size_t>(first) * element, bytes));
  kernels::WidenToFloat(bytes.data(), ToFloatFormat(tensor.dtype), static_cast<size_t>(count), out);
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
                std::shared_ptr<PackedArena> arena, LoadScratch& scratch)
      : checkpoint_(checkpoint), plan_(plan), slice_(slice), scratch_(scratch) {
    linear_.memory_ = std::make_unique<LoadedLinear::Memory>();
    linear_.memory_->arena = std::move(arena);
  }

  absl::StatusOr<LoadedLinear> Build() {
    SHEAF_RETURN_IF_ERROR(plan_.packed()    ? BuildPacked()
                          : plan_.to_int8 ? BuildInt8()
                                          : BuildDense());
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
    if (plan_.bits == 8) {
      linear_.view_.storage = Linear::Storage::kW8;
      return FillPacked(groups, linear_.view_.w8);
    }
    linear_.view_.storage = Linear::Storage::kW4;
    return FillPacked(groups, linear_.view_.w4);
  }

  template <int kBits>
  absl::Status FillPacked(const WeightGroups& groups, kernels::PackedIntegers<kBits>& w) {
    w.n = slice_.num_rows;
    w.k = slice_.num_columns;
    w.segment = groups.segment;
    w.scale_format = ToScaleFormat(plan_.scales->dtype);

    auto* const scales = Allocate<uint8_t>(w.scale_count() * kernels::ScaleBytes(w.scale_format));
    w.scales = scales;
    auto* const codes = Allocate<uint32_t>(w.code_bytes() / sizeof(uint32_t));
    w.codes = reinterpret_cast<const uint8_t*>(codes);

    const size_t block_scales = w.scale_count() / kernels::NumRowBlocks(w.n);
    const size_t block_words = w.code_bytes() / sizeof(uint32_t) / kernels::NumRowBlocks(w.n);
    const int piece_rows = PieceRows();
    for (int row = 0; row < slice_.num_rows; row += piece_rows) {
      SHEAF_ASSIGN_OR_RETURN(const Piece piece,
                             ReadPiece(row, std::min(piece_rows, slice_.num_rows - row)));
      const size_t block = static_cast<size_t>(row / kRowBlock);
      SHEAF_RETURN_IF_ERROR(CopyScales(
          piece, groups, scales + block * block_scales * kernels::ScaleBytes(w.scale_format)));
      UnpackCodes(piece, groups, codes + block * block_words);
    }
    SHEAF_ASSIGN_OR_RETURN(const std::vector<uint8_t> zeros,
                           ReadZeros(groups, w.scale_count()));
    if (!zeros.empty()) {
      auto* const copy = Allocate<uint8_t>(zeros.size());
      std::copy(zeros.begin(), zeros.end(), copy);
      w.zeros = copy;
    }
    if (!groups.permutation.empty()) {
      auto* const copy = Allocate<int32_t>(groups.permutation.size());
      std::copy(groups.permutation.begin(), groups.permutation.end(), copy);
      w.permutation = copy;
    }
    return absl::OkStatus();
  }

  // Empty when they are all symmetric_zero().
  absl::StatusOr<std::vector<uint8_t>> ReadZeros(const WeightGroups& groups, size_t count) {
    if (plan_.zeros == nullptr) return std::vector<uint8_t>();
    SHEAF_ASSIGN_OR_RETURN(const std::span<uint8_t> stored,
                           scratch_.zeros.Resize(plan_.zeros_bytes()));
    SHEAF_RETURN_IF_ERROR(checkpoint_.Read(*plan_.zeros, plan_.zeros_offset, stored));
    LinearPlan decided = plan_;
    SHEAF_ASSIGN_OR_RETURN(decided.zero_points, DecideZeroPoints(plan_, stored));
    if (decided.zero_points == ZeroPoints::kSymmetric) return std::vector<uint8_t>();
    std::vector<uint8_t> zeros(count);
    if (!CopyZeros(decided, slice_, stored, groups, zeros.data())) zeros.clear();
    return zeros;
  }

  // Whole row blocks, at least one.
  int PieceRows() const {
    const uint64_t row_bytes =
        std::max<uint64_t>(1, plan_.codes_bytes() / static_cast<uint64_t>(plan_.n));
    const uint64_t blocks = std::max<uint64_t>(1, scratch_.piece_bytes / (row_bytes * kRowBlock));
    return static_cast<int>(std::min<uint64_t>(
        blocks * kRowBlock, static_cast<uint64_t>(kernels::NumRowBlocks(plan_.n)) * kRowBlock));
  }

  // Rows [row, row + num_rows) of the slice. A word may hold 8 rows, so the piece begins at one.
  absl::StatusOr<Piece> ReadPiece(int row, int num_rows) {
    const int first = slice_.first_row + row;
    const int begin = first / kRowsAWord * kRowsAWord;
    const int end =
        std::min(plan_.n, (first + num_rows + kRowsAWord - 1) / kRowsAWord * kRowsAWord);
    Piece piece;
    piece.plan = plan_;
    piece.plan.n = end - begin;
    piece.range = {first - begin, num_rows, slice_.first_column, slice_.num_columns};
    piece.row_in_file = plan_.first_row + begin;
    const auto read = [&](const TensorInfo& tensor, RowAxis axis, ReadBuffer& buffer) {
      const int rows = plan_.is_part ? plan_.matrix_rows : plan_.n;
      return ReadRows(checkpoint_, tensor,
                      {axis, rows, plan_.first_row + begin, end - begin, plan_.matrix}, buffer);
    };
    SHEAF_ASSIGN_OR_RETURN(piece.codes,
                           read(*plan_.codes, CodeAxis(plan_.format), scratch_.codes));
    SHEAF_ASSIGN_OR_RETURN(piece.scales,
                           read(*plan_.scales, ScaleAxis(plan_.format), scratch_.scales));
    return piece;
  }

  absl::Status BuildInt8() {
    SHEAF_CHECK(IsWholeRows(plan_, slice_), "whoever sets to_int8 loads whole rows");
    linear_.view_.storage = Linear::Storage::kW8;
    kernels::PackedW8& w = linear_.view_.w8;
    w.n = slice_.num_rows;
    w.k = slice_.num_columns;
    w.segment = kInt8Group;
    w.scale_format = kernels::ScaleFormat::kF32;
    auto* const scales = Allocate<float>(w.scale_count());
    w.scales = scales;
    auto* const codes = Allocate<uint32_t>(w.code_bytes() / sizeof(uint32_t));
    w.codes = reinterpret_cast<const uint8_t*>(codes);

    const size_t row_bytes = static_cast<size_t>(w.k) * DtypeBytes(plan_.codes->dtype);
    const size_t block_scales = w.scale_count() / w.row_blocks();
    const size_t block_words = w.code_bytes() / sizeof(uint32_t) / w.row_blocks();
    const int blocks_at_once =
        static_cast<int>(std::clamp<size_t>(kCheckedBytes / (row_bytes * kRowBlock), 1,
                                            static_cast<size_t>(w.row_blocks())));
    for (int block = 0; block < w.row_blocks(); block += blocks_at_once) {
      const int row = block * kRowBlock;
      const int rows = std::min(blocks_at_once * kRowBlock, w.n - row);
      SHEAF_ASSIGN_OR_RETURN(const std::span<uint8_t> bytes,
                             scratch_.codes.Resize(rows * row_bytes));
      SHEAF_RETURN_IF_ERROR(checkpoint_.Read(
          *plan_.codes,
          plan_.codes_offset + (static_cast<size_t>(slice_.first_row) + row) * row_bytes, bytes));
      SHEAF_RETURN_IF_ERROR(CheckFinite(row, bytes));
      PackInt8(bytes, rows, scales + block * block_scales, codes + block * block_words);
    }
    return absl::OkStatus();
  }

  // Rows of plain floats, the first of them that of a row block.
  void PackInt8(std::span<const uint8_t> bytes, int rows, float* scales, uint32_t* codes) const {
    const auto k = static_cast<size_t>(plan_.k);
    const auto groups = static_cast<size_t>(Int8Groups(plan_.k));
    std::vector<float> row_floats(k), row_scales(groups);
    std::vector<uint8_t> row_codes(k * rows);
    for (int row = 0; row < rows; ++row) {
      kernels::WidenToFloat(bytes.data() + row * k * DtypeBytes(plan_.codes->dtype),
                            ToFloatFormat(plan_.codes->dtype), k, row_floats.data());
      QuantizeRowToInt8(row_floats.data(), plan_.k, row_codes.data() + row * k, row_scales.data());
      float* const out = scales + row / kRowBlock * groups * kRowBlock + row % kRowBlock;
      for (size_t group = 0; group < groups; ++group) out[group * kRowBlock] = row_scales[group];
    }
    UnpackRowsOfBytes(row_codes.data(), k, /*flip=*/0, {0, rows, 0, plan_.k}, WeightGroups{},
                      codes);
  }

  absl::Status BuildDense() {
    const size_t element = DtypeBytes(plan_.codes->dtype);
    const size_t row_bytes = static_cast<size_t>(plan_.k) * element;
    const size_t part_bytes = static_cast<size_t>(slice_.num_columns) * element;
    linear_.view_.storage = Linear::Storage::kDense;
    kernels::DenseMatrix& dense = linear_.view_.dense;
    dense.n = slice_.num_rows;
    dense.k = slice_.num_columns;
    dense.format = ToFloatFormat(plan_.codes->dtype);
    if (plan_.format == WeightFormat::kFp8) {
      const UnpackRange range = {slice_.first_row, slice_.num_rows, slice_.first_column,
                                 slice_.num_columns};
      auto* const scales = Allocate<float>(Fp8ScaleCount(plan_, range));
      SHEAF_ASSIGN_OR_RETURN(dense.scales, ReadFp8Scales(checkpoint_, plan_, range, scales));
    }
    auto* const copy = Allocate<uint8_t>(part_bytes * slice_.num_rows);
    dense.data = copy;
    // Checked while they are in the core's cache.
    const bool whole = IsWholeRows(plan_, slice_);
    const int at_once = whole ? static_cast<int>(std::clamp<size_t>(kCheckedBytes / row_bytes, 1,
                                                                    slice_.num_rows))
                              : 1;
    for (int row = 0; row < slice_.num_rows; row += at_once) {
      const int rows = std::min(at_once, slice_.num_rows - row);
      const std::span<uint8_t> out(copy + row * part_bytes, rows * part_bytes);
      SHEAF_RETURN_IF_ERROR(checkpoint_.Read(
          *plan_.codes,
          plan_.codes_offset + (static_cast<size_t>(slice_.first_row) + row) * row_bytes +
              slice_.first_column * element,
          out));
      SHEAF_RETURN_IF_ERROR(CheckFinite(row, out));
    }
    return absl::OkStatus();
  }

  // Of rows of a plain matrix, the first of them row `row` of the slice.
  absl::Status CheckFinite(int row, std::span<const uint8_t> bytes) const {
    const kernels::FloatFormat format = ToFloatFormat(plan_.codes->dtype);
    const size_t at = FirstNotFinite(bytes, format);
    const size_t element = kernels::FloatBytes(format);
    if (at * element == bytes.size()) return absl::OkStatus();
    const size_t columns = static_cast<size_t>(slice_.num_columns);
    const uint64_t file_row =
        plan_.codes_offset / (static_cast<uint64_t>(plan_.k) * element) + slice_.first_row + row;
    return TensorError(*plan_.codes, "finite weights",
                       absl::StrFormat("NaN or Inf at row %d, column %d", file_row + at / columns,
                                       slice_.first_column + at % columns));
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
  LoadScratch& scratch_;
  LoadedLinear linear_;
};

size_t MaxArenaBytes(const LinearPlan& plan, const LinearSlice& unresolved) {
  const LinearSlice slice = Resolved(plan, unresolved);
  size_t bytes = plan.bias == nullptr ? 0 : PackedArena::Rounded(slice.num_rows * sizeof(float));
  if (plan.format == WeightFormat::kFp8) {
    bytes += PackedArena::Rounded(Fp8ScaleCount(plan, {slice.first_row, slice.num_rows,
                                                       slice.first_column, slice.num_columns}) *
                                  sizeof(float));
  }
  const size_t rows = static_cast<size_t>(kernels::NumRowBlocks(slice.num_rows)) * kRowBlock;
  const size_t padded_k = static_cast<size_t>(kernels::PaddedK(slice.num_columns));
  if (plan.to_int8) {
    return bytes + PackedArena::Rounded(rows * padded_k) +
           PackedArena::Rounded(rows * (padded_k / kInt8Group) * sizeof(float));
  }
  if (!plan.packed()) {
    return bytes + PackedArena::Rounded(static_cast<size_t>(slice.num_rows) * slice.num_columns *
                                        DtypeBytes(plan.codes->dtype));
  }
  const size_t segments = padded_k / kMinSegment;
  bytes += PackedArena::Rounded(rows * padded_k * plan.bits / 8);
  bytes += PackedArena::Rounded(rows * segments * DtypeBytes(plan.scales->dtype));
  bytes += PackedArena::Rounded(rows * segments);  // zeros
  bytes += PackedArena::Rounded(static_cast<size_t>(slice.num_columns) *
                                sizeof(int32_t));  // permutation
  return bytes;
}

absl::StatusOr<LoadedLinear> LoadPlannedLinear(const Checkpoint& checkpoint, const LinearPlan& plan,
                                               const LinearSlice& unresolved,
                                               const std::shared_ptr<PackedArena>& arena,
                                               LoadScratch& scratch) {
  const LinearSlice slice = Resolved(plan, unresolved);
  SHEAF_RETURN_IF_ERROR(CheckSlice(plan, slice));
  return LinearBuilder(checkpoint, plan, slice, arena, scratch).Build();
}

absl::StatusOr<LoadedLinear> LoadLinear(const Checkpoint& checkpoint,
                                        const QuantizationHints& hints, const std::string& prefix,
                                        int n, int k) {
  SHEAF_ASSIGN_OR_RETURN(const LinearPlan plan, PlanLinear(checkpoint, hints, prefix, n, k));
  SHEAF_ASSIGN_OR_RETURN(std::shared_ptr<PackedArena> arena,
                         PackedArena::Reserve(MaxArenaBytes(plan, {})));
  LoadScratch scratch;
  return LoadPlannedLinear(checkpoint, plan, {}, arena, scratch);
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

absl::StatusOr<float> LoadFloat(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  float value = 0.0f;
  SHEAF_RETURN_IF_ERROR(WidenFinite(checkpoint, tensor, 0, 1, &value));
  return value;
}

}  // namespace sheaf

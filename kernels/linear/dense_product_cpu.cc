#include <algorithm>

#include "kernels/linear/dense_product.h"
#include "kernels/simd/highway_targets.h"
#include "kernels/simd/reference_switch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/dense_product_cpu.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/linear/e4m3-inl.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

// A tile's sums, inputs and weights fit the registers: 32 of 16, 16 of 8 or 32 of 4 floats. One sum
// that does not waits for its own store in every step of 16 inputs.
inline constexpr int kTileRows = kVectors == 1 ? 6 : 2;
inline constexpr int kTileColumns = kVectors == 1 ? 4 : 2;
// As few rows as take their weights from memory as they are.
inline constexpr int kStreamRows = kVectors == 1 ? 12 : 8;
// For many rows: weights widened once for a batch of rows, in slices that stay in the first-level
// cache.
inline constexpr int kBatchRows = 48;
inline constexpr int kBatchColumns = 16;
inline constexpr int kSlice = 512;
inline constexpr size_t kPrefetchBytes = 512;

template <FloatFormat kFormat>
HWY_INLINE Lanes LoadWeights(const uint8_t* row, int at) {
  const uint8_t* p = row + static_cast<size_t>(at) * FloatBytes(kFormat);
  if constexpr (kFormat == FloatFormat::kBF16) return LoadBF16(p);
  if constexpr (kFormat == FloatFormat::kF16) return LoadF16(p);
  return Load(reinterpret_cast<const float*>(p));
}

template <FloatFormat kFormat>
HWY_INLINE Lanes LoadWeightsN(const uint8_t* row, int at, int count) {
  const uint8_t* p = row + static_cast<size_t>(at) * FloatBytes(kFormat);
  if constexpr (kFormat == FloatFormat::kBF16) return LoadBF16N(p, count);
  if constexpr (kFormat == FloatFormat::kF16) return LoadF16N(p, count);
  return LoadN(reinterpret_cast<const float*>(p), count);
}

// sums[R][C][16 lanes] += x w over `count` inputs, of which only the last run of a product may be
// no multiple of 16. The sums live in registers meanwhile: loops over a tile are flat and unrolled
// by name, as an array that is indexed by a loop variable, or whose address is passed on, would
// live in memory.
template <FloatFormat kFormat, int R, int C, bool kFromMemory>
void AddTile(const uint8_t* w, size_t w_stride_bytes, const float* x, size_t x_stride, int count,
             float* sums, size_t sums_stride) {
  Lanes acc[R * C];
#pragma GCC unroll 24
  for (int i = 0; i < R * C; ++i) acc[i] = Load(sums + i / C * sums_stride + i % C * kLanes);
  const int whole = count / static_cast<int>(kLanes) * static_cast<int>(kLanes);
  for (int at = 0; at < whole; at += kLanes) {
    Lanes weights[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const uint8_t* row = w + c * w_stride_bytes;
      if constexpr (kFromMemory && R <= 2) {
        hwy::Prefetch(row + at * FloatBytes(kFormat) + kPrefetchBytes);
      }
      weights[c] = LoadWeights<kFormat>(row, at);
    }
#pragma GCC unroll 24
    for (int i = 0; i < R * C; ++i) {
      acc[i] = Fma(Load(x + i / C * x_stride + at), weights[i % C], acc[i]);
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < R * C; ++i) Store(acc[i], sums + i / C * sums_stride + i % C * kLanes);
  if (whole == count) return;
  for (int i = 0; i < R * C; ++i) {
    float* sum = sums + i / C * sums_stride + i % C * kLanes;
    const Lanes weights = LoadWeightsN<kFormat>(w + i % C * w_stride_bytes, whole, count - whole);
    Store(Fma(LoadN(x + i / C * x_stride + whole, count - whole), weights, Load(sum)), sum);
  }
}

// How the scales of 8-bit floats lie along a row: one for each run of whole steps of 16 inputs, or
// one for each input. Others are widened first.
enum class ScaleRuns : uint8_t { kSteps, kInputs, kOther };

ScaleRuns RunsOf(const BlockScales& scales) {
  if (scales.block_columns == 1) return ScaleRuns::kInputs;
  const int lanes = static_cast<int>(kLanes);
  const bool whole = scales.block_columns % lanes == 0 && scales.first_column % lanes == 0;
  return whole ? ScaleRuns::kSteps : ScaleRuns::kOther;
}

// sums[R][C][16 lanes] of 8-bit weights, rows of the matrix from `column` on.
template <ScaleRuns kRuns, int R, int C>
void AddE4M3Tile(const DenseMatrix& w, int column, const float* x, float* sums) {
  const auto k = static_cast<size_t>(w.k);
  const uint8_t* const codes = w.row(column);
  const float* scales[C];
  for (int c = 0; c < C; ++c) {
    scales[c] = w.scales.row(column + c);
    if (kRuns == ScaleRuns::kInputs) scales[c] += w.scales.first_column;
  }
  Lanes acc[R * C];
#pragma GCC unroll 24
  for (int i = 0; i < R * C; ++i) acc[i] = Zero();
  const int whole = w.k / static_cast<int>(kLanes) * static_cast<int>(kLanes);
  const int run = kRuns == ScaleRuns::kSteps ? w.scales.block_columns : w.k;
  int run_end = kRuns == ScaleRuns::kSteps ? run - w.scales.first_column : run;
  int block = 0;
  Lanes gains[C];
  for (int at = 0; at < whole; ++block, run_end += run) {
    if constexpr (kRuns == ScaleRuns::kSteps) {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) gains[c] = Set(scales[c][block] * kE4M3Gain);
    }
    const int end = std::min(run_end, whole);
    for (; at < end; at += kLanes) {
      Lanes weights[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        const uint8_t* row = codes + c * k + at;
        if constexpr (R <= 2) hwy::Prefetch(row + kPrefetchBytes);
        if constexpr (kRuns == ScaleRuns::kInputs) {
          gains[c] = Mul(Load(scales[c] + at), Set(kE4M3Gain));
        }
        weights[c] = Mul(LoadE4M3(row), gains[c]);
      }
#pragma GCC unroll 24
      for (int i = 0; i < R * C; ++i) {
        acc[i] = Fma(Load(x + i / C * k + at), weights[i % C], acc[i]);
      }
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < R * C; ++i) Store(acc[i], sums + i * kLanes);
  const int rest = w.k - whole;
  if (rest == 0) return;
  for (int i = 0; i < R * C; ++i) {
    float* sum = sums + i * kLanes;
    alignas(64) float weights[kLanes] = {};
    kernels::WidenRow(w, column + i % C, whole, rest, weights);
    Store(Fma(LoadN(x + i / C * k + whole, rest), Load(weights), Load(sum)), sum);
  }
}

void StoreSum(const DensePiece& piece, int row, int column, const float* lanes) {
  float sum = ReduceSum(Load(lanes));
  if (piece.bias != nullptr) sum += piece.bias[column];
  piece.y[(row - piece.row_begin) * piece.y_stride + column - piece.column_begin] = sum;
}

// Few rows: weights pass from memory through the registers once.
template <FloatFormat kFormat, ScaleRuns kRuns, int R, int C>
void StreamTile(const DensePiece& piece, int row, int column) {
  const DenseMatrix& w = *piece.w;
  const float* x = piece.x + static_cast<size_t>(row) * w.k;
  alignas(64) float sums[R * C * kLanes] = {};
  if constexpr (kFormat == FloatFormat::kE4M3) {
    AddE4M3Tile<kRuns, R, C>(w, column, x, sums);
  } else {
    const size_t w_stride_bytes = static_cast<size_t>(w.k) * FloatBytes(kFormat);
    AddTile<kFormat, R, C, true>(w.row(column), w_stride_bytes, x, w.k, w.k, sums, C * kLanes);
  }
  for (int i = 0; i < R * C; ++i) {
    StoreSum(piece, row + i / C, column + i % C, sums + i * kLanes);
  }
}

template <FloatFormat kFormat, ScaleRuns kRuns, int C, int R = kTileRows>
void StreamRows(int num_rows, const DensePiece& piece, int row, int column) {
  if constexpr (R > 1) {
    if (num_rows < R) return StreamRows<kFormat, kRuns, C, R - 1>(num_rows, piece, row, column);
  }
  StreamTile<kFormat, kRuns, R, C>(piece, row, column);
}

// All rows before the next columns: the second tile of rows finds the weights in the second-level
// cache.
template <FloatFormat kFormat, ScaleRuns kRuns, int C>
int StreamColumns(const DensePiece& piece, int column) {
  const int num_rows = piece.row_end - piece.row_begin;
  const int num_tiles = (num_rows + kTileRows - 1) / kTileRows;
  for (; column + C <= piece.column_end; column += C) {
    for (int tile = 0; tile < num_tiles; ++tile) {
      const int begin = num_rows * tile / num_tiles;
      const int end = num_rows * (tile + 1) / num_tiles;
      StreamRows<kFormat, kRuns, C>(end - begin, piece, piece.row_begin + begin, column);
    }
  }
  return column;
}

template <FloatFormat kFormat, ScaleRuns kRuns = ScaleRuns::kOther>
void Stream(const DensePiece& piece) {
  const int column = StreamColumns<kFormat, kRuns, kTileColumns>(piece, piece.column_begin);
  StreamColumns<kFormat, kRuns, 1>(piece, column);
}

// Many rows: the sums of a batch live in memory, its weights and inputs in the first-level cache.
struct Batch {
  alignas(64) float weights[kBatchColumns][kSlice];
  alignas(64) float sums[kBatchRows][kBatchColumns][kLanes];
};

template <int R>
void AddBatchTile(int num_rows, Batch& batch, const float* x, size_t x_stride, int row, int count) {
  if constexpr (R > 1) {
    if (num_rows < R) return AddBatchTile<R - 1>(num_rows, batch, x, x_stride, row, count);
  }
  for (int column = 0; column < kBatchColumns; column += kTileColumns) {
    AddTile<FloatFormat::kF32, R, kTileColumns, false>(
        reinterpret_cast<const uint8_t*>(batch.weights[column]), sizeof(batch.weights[0]),
        x + row * x_stride, x_stride, count, batch.sums[row][column], kBatchColumns * kLanes);
  }
}

void MultiplyBatch(const DensePiece& piece, int first_row, int num_rows, int first_column) {
  const DenseMatrix& w = *piece.w;
  const int num_columns = std::min(kBatchColumns, piece.column_end - first_column);
  Batch batch;
  std::fill_n(&batch.sums[0][0][0], num_rows * kBatchColumns * kLanes, 0.0f);
  // Columns past the matrix multiply zeros; their sums are not stored.
  std::fill_n(&batch.weights[0][0], kBatchColumns * kSlice, 0.0f);
  for (int at = 0; at < w.k; at += kSlice) {
    const int count = std::min(kSlice, w.k - at);
    for (int c = 0; c < num_columns; ++c) {
      kernels::WidenRow(w, first_column + c, at, count, batch.weights[c]);
    }
    const float* x = piece.x + static_cast<size_t>(first_row) * w.k + at;
    for (int row = 0; row < num_rows; row += kTileRows) {
      AddBatchTile<kTileRows>(num_rows - row, batch, x, w.k, row, count);
    }
  }
  for (int row = 0; row < num_rows; ++row) {
    for (int c = 0; c < num_columns; ++c) {
      StoreSum(piece, first_row + row, first_column + c, batch.sums[row][c]);
    }
  }
}

// Whether the piece was done.
bool StreamFewRows(const DensePiece& piece) {
  if (piece.row_end - piece.row_begin > kStreamRows) return false;
  switch (piece.w->format) {
    case FloatFormat::kF32:
      Stream<FloatFormat::kF32>(piece);
      return true;
    case FloatFormat::kBF16:
      Stream<FloatFormat::kBF16>(piece);
      return true;
    case FloatFormat::kF16:
      Stream<FloatFormat::kF16>(piece);
      return true;
    case FloatFormat::kE4M3:
      break;
  }
  switch (RunsOf(piece.w->scales)) {
    case ScaleRuns::kSteps:
      Stream<FloatFormat::kE4M3, ScaleRuns::kSteps>(piece);
      return true;
    case ScaleRuns::kInputs:
      Stream<FloatFormat::kE4M3, ScaleRuns::kInputs>(piece);
      return true;
    case ScaleRuns::kOther:
      break;
  }
  return false;
}

void MultiplyDenseSimd(const DensePiece& piece) {
  if (StreamFewRows(piece)) return;
  // A batch's inputs stay in the second-level cache while the weights pass.
  for (int row = piece.row_begin; row < piece.row_end; row += kBatchRows) {
    for (int column = piece.column_begin; column < piece.column_end; column += kBatchColumns) {
      MultiplyBatch(piece, row, std::min(kBatchRows, piece.row_end - row), column);
    }
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(MultiplyDenseSimd);

void MultiplyDense(const DensePiece& piece) {
  if (internal::UseReference()) return ref::MultiplyDense(piece);
  HWY_DYNAMIC_DISPATCH(MultiplyDenseSimd)(piece);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

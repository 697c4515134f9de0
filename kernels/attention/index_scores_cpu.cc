#include "kernels/simd/highway_targets.h"
#include "kernels/attention/index_scores_rows.h"
#include "kernels/linear/scaled_fp8.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/index_scores_cpu.cc"
#include <algorithm>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/attention/kv_format-inl.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

// A tile of heads by positions keeps its sums and one row of keys in registers (16 on AVX2, 32 on
// the others); a panel of 128 dimensions stays in the first-level cache.
inline constexpr size_t kHeadTile = HWY_MAX_BYTES == 64 ? 8 : 4;
inline constexpr size_t kPanelVectors = HWY_MAX_BYTES == 16 ? 6 : 3;
inline constexpr size_t kPanel = kPanelVectors * kVectorLanes;

size_t IndexPanelPositionsSimd() { return kPanel; }

// Block b of the result is the 16 bytes at rows[4 * b] + offset.
template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const uint8_t* const* rows, size_t offset) {
  constexpr size_t kCount = hn::MaxLanes(D());
  if constexpr (kCount == 4) {
    return hn::LoadU(d, reinterpret_cast<const float*>(rows[0] + offset));
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, LoadBlocks(half, rows + kCount / 2, offset),
                       LoadBlocks(half, rows, offset));
  }
}

struct FourWords {
  LaneVector v[4];
};

// Lane i of v[j] is word j of the 16 bytes at rows[i] + offset.
HWY_INLINE FourWords LoadTransposed(const uint8_t* const* rows, size_t offset) {
  const LaneTag d;
  const hn::Repartition<uint64_t, LaneTag> pairs;
  const LaneVector r0 = LoadBlocks(d, rows, offset);
  const LaneVector r1 = LoadBlocks(d, rows + 1, offset);
  const LaneVector r2 = LoadBlocks(d, rows + 2, offset);
  const LaneVector r3 = LoadBlocks(d, rows + 3, offset);
  const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(d, r0, r1));
  const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(d, r2, r3));
  const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(d, r0, r1));
  const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(d, r2, r3));
  return {{hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23)),
           hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23)),
           hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23)),
           hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23))}};
}

// One vector of positions of the panel, four dimensions at a time from floats ...
HWY_INLINE void FillFromFloats(const uint8_t* const* rows, size_t dim, float* HWY_RESTRICT out) {
  for (size_t i = 0; i < dim; i += 4) {
    const FourWords words = LoadTransposed(rows, i * sizeof(float));
    for (size_t j = 0; j < 4; ++j) hn::StoreU(words.v[j], LaneTag(), out + (i + j) * kPanel);
  }
}

// ... and eight from bf16, whose pairs move as one word.
HWY_INLINE void FillFromBF16(const uint8_t* const* rows, size_t dim, float* HWY_RESTRICT out) {
  const LaneTag d;
  const WordTag du;
  for (size_t i = 0; i < dim; i += 8) {
    const FourWords words = LoadTransposed(rows, i * sizeof(uint16_t));
    for (size_t j = 0; j < 4; ++j) {
      const auto pair = hn::BitCast(du, words.v[j]);
      float* first = out + (i + 2 * j) * kPanel;
      hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(pair)), d, first);
      hn::StoreU(hn::BitCast(d, hn::And(pair, hn::Set(du, 0xFFFF0000u))), d, first + kPanel);
    }
  }
}

void LoadIndexPanelSimd(const IndexKeyPool& keys, const int32_t* block_table, int begin,
                        size_t count, float* rows, float* panel) {
  const size_t dim = static_cast<size_t>(keys.dim);
  const size_t stride = (dim + kLanes - 1) / kLanes * kLanes;
  const bool from_bf16 = keys.format == KvFormat::kBF16 && dim % 8 == 0;
  const bool from_floats = keys.format == KvFormat::kF32 && dim % 4 == 0;
  for (size_t first = 0; first < kPanel; first += kVectorLanes) {
    // Records as they are where nothing has to be padded, otherwise rows of floats.
    const uint8_t* row_of[kVectorLanes];
    for (size_t i = 0; i < kVectorLanes; ++i) {
      float* row = rows + i * stride;
      row_of[i] = reinterpret_cast<const uint8_t*>(row);
      if (first + i >= count) {
        std::fill(row, row + stride, 0.0f);
        continue;
      }
      const int p = begin + static_cast<int>(first + i);
      const uint8_t* record = keys.token(block_table[p / keys.block_size], p % keys.block_size);
      if (from_bf16 || from_floats) {
        row_of[i] = record;
      } else if (keys.format == KvFormat::kFp8E4M3) {
        LoadScaledFp8(record, dim, row);
        std::fill(row + dim, row + stride, 0.0f);
      } else {
        LoadKvRow<true>(record, dim, keys.format, row);
      }
    }
    if (from_bf16) {
      FillFromBF16(row_of, dim, panel + first);
    } else {
      FillFromFloats(row_of, dim, panel + first);
    }
  }
}

// Adds the part of heads [head, head + heads) to the panel's scores.
template <size_t heads>
HWY_INLINE void ScoreHeads(const float* HWY_RESTRICT q, const float* HWY_RESTRICT head_weights,
                           size_t dim, float scale, const float* HWY_RESTRICT panel,
                           float* HWY_RESTRICT scores) {
  const LaneTag d;
  LaneVector dot[heads][kPanelVectors];
  for (size_t h = 0; h < heads; ++h) {
    for (size_t v = 0; v < kPanelVectors; ++v) dot[h][v] = hn::Zero(d);
  }
  for (size_t i = 0; i < dim; ++i) {
    LaneVector key[kPanelVectors];
    for (size_t v = 0; v < kPanelVectors; ++v) {
      key[v] = hn::LoadU(d, panel + i * kPanel + v * kVectorLanes);
    }
    for (size_t h = 0; h < heads; ++h) {
      const LaneVector element = hn::Set(d, q[h * dim + i]);
      for (size_t v = 0; v < kPanelVectors; ++v) {
        dot[h][v] = hn::MulAdd(element, key[v], dot[h][v]);
      }
    }
  }
  const LaneVector factor = hn::Set(d, scale);
  for (size_t v = 0; v < kPanelVectors; ++v) {
    float* out = scores + v * kVectorLanes;
    LaneVector score = hn::LoadU(d, out);
    for (size_t h = 0; h < heads; ++h) {
      const LaneVector s = hn::Mul(dot[h][v], factor);
      const LaneVector r = hn::IfThenElseZero(hn::Gt(s, hn::Zero(d)), s);
      score = hn::MulAdd(hn::Set(d, head_weights[h]), r, score);
    }
    hn::StoreU(score, d, out);
  }
}

void ScoreIndexPanelSimd(const IndexQuery& query, int num_heads, size_t dim, float scale,
                         const float* panel, size_t count, const internal::RecordsAhead& ahead,
                         float* scores) {
  alignas(64) float sums[kPanel] = {};
  const size_t n = static_cast<size_t>(num_heads);
  const size_t tiles = n / kHeadTile;
  for (size_t tile = 0; tile < tiles; ++tile) {
    ahead.Fetch(tile, tiles);
    ScoreHeads<kHeadTile>(query.q + tile * kHeadTile * dim, query.head_weights + tile * kHeadTile,
                          dim, scale, panel, sums);
  }
  size_t h = tiles * kHeadTile;
  for (; h + 2 <= n; h += 2) {
    ScoreHeads<2>(query.q + h * dim, query.head_weights + h, dim, scale, panel, sums);
  }
  if (h < n) ScoreHeads<1>(query.q + h * dim, query.head_weights + h, dim, scale, panel, sums);
  std::memcpy(scores, sums, count * sizeof(float));
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(IndexPanelPositionsSimd);
HWY_EXPORT(LoadIndexPanelSimd);
HWY_EXPORT(ScoreIndexPanelSimd);

namespace internal {

size_t IndexPanelPositions() { return HWY_DYNAMIC_DISPATCH(IndexPanelPositionsSimd)(); }

void LoadIndexPanel(const IndexKeyPool& keys, const int32_t* block_table, int begin, size_t count,
                    float* rows, float* panel) {
  HWY_DYNAMIC_DISPATCH(LoadIndexPanelSimd)(keys, block_table, begin, count, rows, panel);
}

void ScoreIndexPanel(const IndexQuery& query, int num_heads, size_t dim, float scale,
                     const float* panel, size_t count, const RecordsAhead& ahead, float* scores) {
  HWY_DYNAMIC_DISPATCH(ScoreIndexPanelSimd)
  (query, num_heads, dim, scale, panel, count, ahead, scores);
}

}  // namespace internal
}  // namespace sheaf::kernels
#endif  // HWY_ONCE

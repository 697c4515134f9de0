// The inner steps of attention on one reduction block and four query rows, for the kernels of paged
// and of latent attention. The arithmetic is spelled out in paged_attention_ref.cc.
//
// A per-target header of Highway: include it as kernels/simd/lanes-inl.h.

#if defined(SHEAF_KERNELS_ATTENTION_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SHEAF_KERNELS_ATTENTION_ROWS_INL_H_
#undef SHEAF_KERNELS_ATTENTION_ROWS_INL_H_
#else
#define SHEAF_KERNELS_ATTENTION_ROWS_INL_H_
#endif

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/vector/exp-inl.h"
#include "kernels/simd/lanes-inl.h"
#include "kernels/attention/paged_attention_rows.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

inline constexpr size_t kRows = internal::kQueryRows;
inline constexpr size_t kBlock = kReductionBlock;

// The last two levels of the tree, 2+2 and 1+1, for four partial sums of four lanes each in every
// 128-bit block: lane i of a block of the result is the total of a_i's block.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V FoldFours(D d, V a0, V a1, V a2, V a3) {
  const hn::Repartition<uint64_t, D> pairs;
  const auto fold_twos = [&](V x, V y) HWY_ATTR {
    const auto low = hn::InterleaveLower(pairs, hn::BitCast(pairs, x), hn::BitCast(pairs, y));
    const auto high = hn::InterleaveUpper(pairs, hn::BitCast(pairs, x), hn::BitCast(pairs, y));
    return hn::Add(hn::BitCast(d, low), hn::BitCast(d, high));
  };
  const V a02 = fold_twos(a0, a2);
  const V a13 = fold_twos(a1, a3);
  return hn::Add(hn::OddEven(a13, a02), hn::Shuffle2301(hn::OddEven(a02, a13)));
}

#if HWY_MAX_BYTES == 64

HWY_INLINE LaneVector FoldEights(LaneVector x, LaneVector y) {
  const LaneTag d;
  return hn::Add(hn::ConcatLowerLower(d, y, x), hn::ConcatUpperUpper(d, y, x));
}

// Blocks of the result: x, z, y, w, each folded to four lanes; xy and zw come from FoldEights.
HWY_INLINE LaneVector FoldBlocks(LaneVector xy, LaneVector zw) {
  return hn::Add(hn::OddEvenBlocks(zw, xy), hn::SwapAdjacentBlocks(hn::OddEvenBlocks(xy, zw)));
}

// scores[r * kBlock + c] = Dot(q_r, k_c) * scale for four rows and four keys.
HWY_INLINE void Scores4x4(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k, size_t width,
                          float scale, float* HWY_RESTRICT scores) {
  const LaneTag d;
  LaneVector sum[4][4];
  for (size_t r = 0; r < 4; ++r) {
    for (size_t c = 0; c < 4; ++c) sum[r][c] = hn::Zero(d);
  }
  for (size_t i = 0; i < width; i += kLanes) {
    const LaneVector k0 = hn::LoadU(d, k + i);
    const LaneVector k1 = hn::LoadU(d, k + width + i);
    const LaneVector k2 = hn::LoadU(d, k + 2 * width + i);
    const LaneVector k3 = hn::LoadU(d, k + 3 * width + i);
    for (size_t r = 0; r < 4; ++r) {
      const LaneVector row = hn::LoadU(d, q + r * width + i);
      sum[r][0] = hn::MulAdd(row, k0, sum[r][0]);
      sum[r][1] = hn::MulAdd(row, k1, sum[r][1]);
      sum[r][2] = hn::MulAdd(row, k2, sum[r][2]);
      sum[r][3] = hn::MulAdd(row, k3, sum[r][3]);
    }
  }
  LaneVector key[4];
  for (size_t c = 0; c < 4; ++c) {
    key[c] = FoldBlocks(FoldEights(sum[0][c], sum[2][c]), FoldEights(sum[1][c], sum[3][c]));
  }
  alignas(64) float folded[kLanes];
  hn::Store(hn::Mul(FoldFours(d, key[0], key[1], key[2], key[3]), hn::Set(d, scale)), d, folded);
  for (size_t r = 0; r < 4; ++r)
    std::memcpy(scores + r * kBlock, folded + 4 * r, 4 * sizeof(float));
}

// scores[r * kBlock + c] = Dot(q_r, k_c) * scale for four rows and the first `count` keys. Rows of
// q and keys are `width` floats apart; keys are followed by rows of numbers up to a multiple of
// four.
HWY_INLINE void ScoreRows(const float* HWY_RESTRICT q, const float* HWY_RESTRICT keys, size_t count,
                          size_t width, float scale, float* HWY_RESTRICT scores) {
  for (size_t c = 0; c < count; c += 4) Scores4x4(q, keys + c * width, width, scale, scores + c);
}

#elif HWY_MAX_BYTES == 32

// Four rows by `columns` keys, first lanes 0-7 of every sixteen, then lanes 8-15: their sums and
// one row of operands stay in sixteen registers, and a tile of three needs seven loads for twelve
// multiply-adds.
template <size_t columns>
HWY_INLINE void Scores4xN(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k, size_t width,
                          float scale, float* HWY_RESTRICT scores) {
  const LaneTag d;
  const hn::Half<LaneTag> d4;
  alignas(32) float low[4 * columns * kVectorLanes];
  LaneVector sum[4][columns];
  for (size_t lane = 0; lane < kLanes; lane += kVectorLanes) {
    for (size_t r = 0; r < 4; ++r) {
      for (size_t c = 0; c < columns; ++c) sum[r][c] = hn::Zero(d);
    }
    for (size_t i = lane; i < width; i += kLanes) {
      LaneVector key[columns];
      for (size_t c = 0; c < columns; ++c) key[c] = hn::LoadU(d, k + c * width + i);
      for (size_t r = 0; r < 4; ++r) {
        const LaneVector row = hn::LoadU(d, q + r * width + i);
        for (size_t c = 0; c < columns; ++c) sum[r][c] = hn::MulAdd(row, key[c], sum[r][c]);
      }
    }
    if (lane > 0) break;
    for (size_t i = 0; i < 4 * columns; ++i) {
      hn::Store(sum[i / columns][i % columns], d, low + i * kVectorLanes);
    }
  }
  alignas(16) float folded[4];
  for (size_t c = 0; c < columns; ++c) {
    const auto fold = [&](size_t r) HWY_ATTR {
      const auto eight = hn::Add(hn::Load(d, low + (r * columns + c) * kVectorLanes), sum[r][c]);
      return hn::Add(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight));
    };
    const auto four = FoldFours(d4, fold(0), fold(1), fold(2), fold(3));
    hn::Store(hn::Mul(four, hn::Set(d4, scale)), d4, folded);
    for (size_t r = 0; r < 4; ++r) scores[r * kBlock + c] = folded[r];
  }
}

HWY_INLINE void ScoreRows(const float* HWY_RESTRICT q, const float* HWY_RESTRICT keys, size_t count,
                          size_t width, float scale, float* HWY_RESTRICT scores) {
  size_t c = 0;
  for (; c + 3 <= count && c + 4 != count; c += 3) {
    Scores4xN<3>(q, keys + c * width, width, scale, scores + c);
  }
  for (; c < count; c += 2) Scores4xN<2>(q, keys + c * width, width, scale, scores + c);
}

#else

HWY_INLINE auto FoldToFour(const Lanes& x) {
  return hn::Add(hn::Add(x.v[0], x.v[2]), hn::Add(x.v[1], x.v[3]));
}

// Two rows by two keys keep their sums in registers.
HWY_INLINE void Scores2x2(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k, size_t width,
                          float scale, float* HWY_RESTRICT scores) {
  Lanes sum00 = Zero(), sum01 = Zero(), sum10 = Zero(), sum11 = Zero();
  for (size_t i = 0; i < width; i += kLanes) {
    const Lanes k0 = Load(k + i);
    const Lanes k1 = Load(k + width + i);
    const Lanes q0 = Load(q + i);
    sum00 = Fma(q0, k0, sum00);
    sum01 = Fma(q0, k1, sum01);
    const Lanes q1 = Load(q + width + i);
    sum10 = Fma(q1, k0, sum10);
    sum11 = Fma(q1, k1, sum11);
  }
  const hn::CappedTag<float, 4> d4;
  const auto four =
      FoldFours(d4, FoldToFour(sum00), FoldToFour(sum01), FoldToFour(sum10), FoldToFour(sum11));
  alignas(16) float folded[4];
  hn::Store(hn::Mul(four, hn::Set(d4, scale)), d4, folded);
  std::memcpy(scores, folded, 2 * sizeof(float));
  std::memcpy(scores + kBlock, folded + 2, 2 * sizeof(float));
}

HWY_INLINE void ScoreRows(const float* HWY_RESTRICT q, const float* HWY_RESTRICT keys, size_t count,
                          size_t width, float scale, float* HWY_RESTRICT scores) {
  for (size_t r = 0; r < 4; r += 2) {
    for (size_t c = 0; c < count; c += 2) {
      Scores2x2(q + r * width, keys + c * width, width, scale, scores + r * kBlock + c);
    }
  }
}

#endif  // HWY_MAX_BYTES

// Turns the first `count` scores of a row into exp(score - m), zeros behind them up to a multiple
// of sixteen; m is their maximum, l their sum.
HWY_INLINE void ExpOfScores(float* row, size_t count, float& m, float& l) {
  const size_t padded = (count + kLanes - 1) / kLanes * kLanes;
  // A score of -infinity has weight 0, which changes neither maximum nor sum.
  std::fill(row + count, row + padded, -std::numeric_limits<float>::infinity());
  Lanes max = Load(row);
  max = Max(max, Set(-std::numeric_limits<float>::infinity()));  // drops NaN
  for (size_t i = kLanes; i < padded; i += kLanes) max = Max(Load(row + i), max);
  m = ReduceMax(max);
  const Lanes shift = Set(m);
  Lanes sum = Zero();
  for (size_t i = 0; i < padded; i += kLanes) {
    const Lanes weight = Exp(Sub(Load(row + i), shift));
    sum = Add(sum, weight);
    Store(weight, row + i);
  }
  l = ReduceSum(sum);
}

// For four rows and `vectors` vectors of columns: calls use(row, column, sum) with the vectors of
//   sum = sum over i < count of weights[row][i] * v[i][column..], i ascending.
// Rows of weights are kBlock, rows of v `stride` floats apart.
template <size_t vectors, class Use>
HWY_INLINE void WeighValues(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT v,
                            size_t count, size_t stride, size_t column, const Use& use) {
  const LaneTag d;
  LaneVector sum[kRows][vectors];
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t c = 0; c < vectors; ++c) sum[r][c] = hn::Zero(d);
  }
  for (size_t i = 0; i < count; ++i) {
    LaneVector value[vectors];
    for (size_t c = 0; c < vectors; ++c) {
      value[c] = hn::LoadU(d, v + i * stride + column + c * kVectorLanes);
    }
    for (size_t r = 0; r < kRows; ++r) {
      const LaneVector weight = hn::Set(d, weights[r * kBlock + i]);
      for (size_t c = 0; c < vectors; ++c) sum[r][c] = hn::MulAdd(weight, value[c], sum[r][c]);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t c = 0; c < vectors; ++c) use(r, column + c * kVectorLanes, sum[r][c]);
  }
}

// Calls tile(number of vectors as a constant, first column) until `width` columns, whole groups of
// sixteen, are covered: as many vectors at a time as four rows' sums leave registers for.
template <class Tile>
HWY_INLINE void EachValueTile(size_t width, const Tile& tile) {
  size_t column = 0;
  const auto take = [&](auto vectors) HWY_ATTR {
    tile(vectors, column);
    column += vectors * kVectorLanes;
  };
  const auto left = [&] { return (width - column) / kVectorLanes; };
  if constexpr (HWY_MAX_BYTES == 32) {
    while (left() >= 3 && left() != 4) take(std::integral_constant<size_t, 3>());
  } else {
    while (left() >= 4) take(std::integral_constant<size_t, 4>());
  }
  while (left() >= 2) take(std::integral_constant<size_t, 2>());
  if (left() > 0) take(std::integral_constant<size_t, 1>());
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SHEAF_KERNELS_ATTENTION_ROWS_INL_H_

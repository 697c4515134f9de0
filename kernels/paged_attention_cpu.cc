#include "kernels/highway_targets.h"
#include "kernels/paged_attention_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/paged_attention_cpu.cc"
#include <algorithm>
#include <cstring>
#include <limits>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/exp-inl.h"
#include "kernels/kv_format-inl.h"
#include "kernels/lanes-inl.h"

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

inline constexpr size_t kValueColumns = 4;

#else

HWY_INLINE auto FoldToFour(const F16& x) {
  if constexpr (kVectors == 4) {
    return hn::Add(hn::Add(x.v[0], x.v[2]), hn::Add(x.v[1], x.v[3]));
  } else {
    const hn::Half<LaneTag> half;
    const auto eight = hn::Add(x.v[0], x.v[1]);
    return hn::Add(hn::LowerHalf(half, eight), hn::UpperHalf(half, eight));
  }
}

// Two rows by two keys keep their sums in registers.
HWY_INLINE void Scores2x2(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k, size_t width,
                          float scale, float* HWY_RESTRICT scores) {
  F16 sum00 = Zero(), sum01 = Zero(), sum10 = Zero(), sum11 = Zero();
  for (size_t i = 0; i < width; i += kLanes) {
    const F16 k0 = Load(k + i);
    const F16 k1 = Load(k + width + i);
    const F16 q0 = Load(q + i);
    sum00 = Fma(q0, k0, sum00);
    sum01 = Fma(q0, k1, sum01);
    const F16 q1 = Load(q + width + i);
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

HWY_INLINE void Scores4x4(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k, size_t width,
                          float scale, float* HWY_RESTRICT scores) {
  for (size_t r = 0; r < 4; r += 2) {
    for (size_t c = 0; c < 4; c += 2) {
      Scores2x2(q + r * width, k + c * width, width, scale, scores + r * kBlock + c);
    }
  }
}

inline constexpr size_t kValueColumns = 1;

#endif  // HWY_MAX_BYTES

// o[r][0, 16 * columns) = sum over i < count of weights[r][i] * v[i], i ascending.
template <size_t columns>
HWY_INLINE void WeighValues(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT v,
                            size_t count, size_t width, float* HWY_RESTRICT o) {
  F16 sum[kRows][columns];
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t c = 0; c < columns; ++c) sum[r][c] = Zero();
  }
  for (size_t i = 0; i < count; ++i) {
    F16 value[columns];
    for (size_t c = 0; c < columns; ++c) value[c] = Load(v + i * width + c * kLanes);
    for (size_t r = 0; r < kRows; ++r) {
      const F16 weight = Set(weights[r * kBlock + i]);
      for (size_t c = 0; c < columns; ++c) sum[r][c] = Fma(weight, value[c], sum[r][c]);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t c = 0; c < columns; ++c) Store(sum[r][c], o + r * width + c * kLanes);
  }
}

void AttendRowsSimd(const float* q, const float* keys, const float* values, size_t count,
                    size_t width, float scale, float* m, float* l, float* o) {
  alignas(64) float weights[kRows * kBlock];
  for (size_t c = 0; c < count; c += 4) Scores4x4(q, keys + c * width, width, scale, weights + c);
  const size_t padded = (count + kLanes - 1) / kLanes * kLanes;
  for (size_t r = 0; r < kRows; ++r) {
    float* row = weights + r * kBlock;
    // A score of -infinity has weight 0, which changes neither maximum nor sum.
    std::fill(row + count, row + padded, -std::numeric_limits<float>::infinity());
    F16 max = Load(row);
    max = Max(max, Set(-std::numeric_limits<float>::infinity()));  // drops NaN
    for (size_t i = kLanes; i < padded; i += kLanes) max = Max(Load(row + i), max);
    m[r] = ReduceMax(max);
    const F16 shift = Set(m[r]);
    F16 sum = Zero();
    for (size_t i = 0; i < padded; i += kLanes) {
      const F16 weight = Exp(Sub(Load(row + i), shift));
      sum = Add(sum, weight);
      Store(weight, row + i);
    }
    l[r] = ReduceSum(sum);
  }
  size_t d = 0;
  for (; d + kValueColumns * kLanes <= width; d += kValueColumns * kLanes) {
    WeighValues<kValueColumns>(weights, values + d, count, width, o + d);
  }
  for (; d < width; d += kLanes) WeighValues<1>(weights, values + d, count, width, o + d);
}

void MergeRowsSimd(const float* m, const float* l, const float* o, size_t width, float* state_m,
                   float* state_l, float* state_o) {
  for (size_t r = 0; r < kRows; ++r) {
    const float merged = m[r] > state_m[r] ? m[r] : state_m[r];
    // The scalar twin has the lanes' bits.
    const F16 a = Exp(Set(state_m[r] - merged));
    const F16 b = Exp(Set(m[r] - merged));
    alignas(64) float sums[kLanes];
    Store(Fma(Set(state_l[r]), a, Mul(Set(l[r]), b)), sums);
    state_l[r] = sums[0];
    state_m[r] = merged;
    const float* block = o + r * width;
    float* state = state_o + r * width;
    for (size_t d = 0; d < width; d += kLanes) {
      Store(Fma(Load(state + d), a, Mul(Load(block + d), b)), state + d);
    }
  }
}

void FinishRowSimd(const float* o, float l, size_t head_dim, float* out) {
  const F16 inverse = Set(1.0f / l);
  size_t d = 0;
  for (; d + kLanes <= head_dim; d += kLanes) Store(Mul(Load(o + d), inverse), out + d);
  if (d < head_dim) StoreN(Mul(Load(o + d), inverse), out + d, head_dim - d);
}

void LoadKvBlockSimd(const KvPool& kv, const int32_t* block_table, int kv_head, int begin, int end,
                     size_t width, float* keys, float* values) {
  const size_t head_dim = static_cast<size_t>(kv.head_dim);
  for (int p = begin; p < end; ++p) {
    const int64_t block = block_table[p / kv.block_size];
    const int slot = p % kv.block_size;
    LoadKvRow<true>(kv.key(block, kv_head, slot), head_dim, kv.format, keys + (p - begin) * width);
    LoadKvRow<true>(kv.value(block, kv_head, slot), head_dim, kv.format,
                    values + (p - begin) * width);
  }
  const size_t count = static_cast<size_t>(end - begin);
  std::fill(keys + count * width, keys + (count + 3) / 4 * 4 * width, 0.0f);
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(LoadKvBlockSimd);
HWY_EXPORT(AttendRowsSimd);
HWY_EXPORT(MergeRowsSimd);
HWY_EXPORT(FinishRowSimd);

namespace internal {

void LoadKvBlock(const KvPool& kv, const int32_t* block_table, int kv_head, int begin, int end,
                 size_t width, float* keys, float* values) {
  HWY_DYNAMIC_DISPATCH(LoadKvBlockSimd)
  (kv, block_table, kv_head, begin, end, width, keys, values);
}

void AttendRows(const float* q, const float* keys, const float* values, size_t count, size_t width,
                float scale, float* m, float* l, float* o) {
  HWY_DYNAMIC_DISPATCH(AttendRowsSimd)(q, keys, values, count, width, scale, m, l, o);
}

void MergeRows(const float* m, const float* l, const float* o, size_t width, float* state_m,
               float* state_l, float* state_o) {
  HWY_DYNAMIC_DISPATCH(MergeRowsSimd)(m, l, o, width, state_m, state_l, state_o);
}

void FinishRow(const float* o, float l, size_t head_dim, float* out) {
  HWY_DYNAMIC_DISPATCH(FinishRowSimd)(o, l, head_dim, out);
}

}  // namespace internal
}  // namespace sheaf::kernels
#endif  // HWY_ONCE

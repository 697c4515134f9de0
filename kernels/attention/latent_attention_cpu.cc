#include "kernels/simd/highway_targets.h"
#include "kernels/attention/latent_attention_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/latent_attention_cpu.cc"
#include <algorithm>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/attention/attention_rows-inl.h"
#include "kernels/vector/exp-inl.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

HWY_INLINE void ScoreBlock(const internal::LatentRows& rows, const float* HWY_RESTRICT keys,
                           size_t count, const internal::RecordsAhead& ahead,
                           float* HWY_RESTRICT scores) {
  for (size_t row = 0; row < rows.rows; row += kRows) {
    ahead.Fetch(row / kRows, rows.rows / kRows);
    ScoreRows(rows.q + row * rows.key_width, keys, count, rows.key_width, rows.scale,
              scores + row * kBlock);
  }
}

void AttendLatentBlockSimd(const internal::LatentRows& rows, const float* keys, size_t count,
                           const internal::RecordsAhead& ahead, float* scratch) {
  ScoreBlock(rows, keys, count, ahead, scratch);
  for (size_t row = 0; row < rows.rows; ++row) {
    ExpOfScores(scratch + row * kBlock, count, rows.m[row], rows.l[row]);
  }
  // Columns outside, rows inside: a strip of values stays in the first-level cache.
  EachValueTile(rows.value_width, [&](auto vectors, size_t column) HWY_ATTR {
    for (size_t group = 0; group < rows.rows; group += kRows) {
      float* o = rows.o + group * rows.value_width;
      WeighValues<vectors>(scratch + group * kBlock, keys, count, rows.key_width, column,
                           [&](size_t row, size_t at, LaneVector sum) HWY_ATTR {
                             hn::StoreU(sum, LaneTag(), o + row * rows.value_width + at);
                           });
    }
  });
}

void MergeLatentBlockSimd(const internal::LatentRows& rows, const float* keys, size_t count,
                          const internal::RecordsAhead& ahead, float* scratch) {
  ScoreBlock(rows, keys, count, ahead, scratch);
  float* block_m = scratch + rows.rows * kBlock;
  float* block_l = block_m + rows.rows;
  // The factors of the running sums and of the block's.
  float* factor_a = block_l + rows.rows;
  float* factor_b = factor_a + rows.rows;
  for (size_t row = 0; row < rows.rows; ++row) {
    ExpOfScores(scratch + row * kBlock, count, block_m[row], block_l[row]);
  }
  for (size_t row = 0; row < rows.rows; row += kLanes) {
    const size_t n = std::min(kLanes, rows.rows - row);
    const Lanes m = LoadN(block_m + row, n);
    const Lanes state_m = LoadN(rows.m + row, n);
    const Lanes merged = Max(m, state_m);
    const Lanes a = Exp(Sub(state_m, merged));
    const Lanes b = Exp(Sub(m, merged));
    StoreN(Fma(LoadN(rows.l + row, n), a, Mul(LoadN(block_l + row, n), b)), rows.l + row, n);
    StoreN(merged, rows.m + row, n);
    StoreN(a, factor_a + row, n);
    StoreN(b, factor_b + row, n);
  }
  const LaneTag d;
  EachValueTile(rows.value_width, [&](auto vectors, size_t column) HWY_ATTR {
    for (size_t group = 0; group < rows.rows; group += kRows) {
      float* o = rows.o + group * rows.value_width;
      WeighValues<vectors>(scratch + group * kBlock, keys, count, rows.key_width, column,
                           [&](size_t row, size_t at, LaneVector sum) HWY_ATTR {
                             float* state = o + row * rows.value_width + at;
                             hn::StoreU(
                                 hn::MulAdd(hn::LoadU(d, state), hn::Set(d, factor_a[group + row]),
                                            hn::Mul(sum, hn::Set(d, factor_b[group + row]))),
                                 d, state);
                           });
    }
  });
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(AttendLatentBlockSimd);
HWY_EXPORT(MergeLatentBlockSimd);

namespace internal {

void AttendLatentBlock(const LatentRows& rows, const float* keys, size_t count,
                       const RecordsAhead& ahead, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendLatentBlockSimd)(rows, keys, count, ahead, scratch);
}

void MergeLatentBlock(const LatentRows& rows, const float* keys, size_t count,
                      const RecordsAhead& ahead, float* scratch) {
  HWY_DYNAMIC_DISPATCH(MergeLatentBlockSimd)(rows, keys, count, ahead, scratch);
}

}  // namespace internal
}  // namespace sheaf::kernels
#endif  // HWY_ONCE

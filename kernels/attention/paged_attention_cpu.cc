#include "kernels/simd/highway_targets.h"
#include "kernels/attention/paged_attention_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/paged_attention_cpu.cc"
#include <algorithm>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/attention/attention_rows-inl.h"
#include "kernels/vector/exp-inl.h"
#include "kernels/attention/kv_format-inl.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

void AttendRowsSimd(const float* q, const float* keys, const float* values, size_t count,
                    size_t width, float scale, float* m, float* l, float* o) {
  alignas(64) float weights[kRows * kBlock];
  ScoreRows(q, keys, count, width, scale, weights);
  for (size_t r = 0; r < kRows; ++r) ExpOfScores(weights + r * kBlock, count, m[r], l[r]);
  const auto store = [&](size_t row, size_t column, LaneVector sum)
                         HWY_ATTR { hn::StoreU(sum, LaneTag(), o + row * width + column); };
  EachValueTile(width, [&](auto vectors, size_t column) HWY_ATTR {
    WeighValues<vectors>(weights, values, count, width, column, store);
  });
}

void MergeRowsSimd(const float* m, const float* l, const float* o, size_t width, float* state_m,
                   float* state_l, float* state_o) {
  for (size_t r = 0; r < kRows; ++r) {
    const float merged = m[r] > state_m[r] ? m[r] : state_m[r];
    // The scalar twin has the lanes' bits.
    const Lanes a = Exp(Set(state_m[r] - merged));
    const Lanes b = Exp(Set(m[r] - merged));
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
  const Lanes inverse = Set(1.0f / l);
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

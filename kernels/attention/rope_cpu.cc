#include "kernels/simd/highway_targets.h"
#include "kernels/simd/reference_switch.h"
#include "kernels/attention/rope.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/rope_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

void ApplyRopeSimd(float* x, int num_heads, int head_dim, size_t half, const float* cos,
                   const float* sin) {
  for (int head = 0; head < num_heads; ++head) {
    float* low = x + static_cast<ptrdiff_t>(head) * head_dim;
    float* high = low + half;
    size_t j = 0;
    for (; j + kLanes <= half; j += kLanes) {
      const Lanes a = Load(low + j);
      const Lanes b = Load(high + j);
      const Lanes c = Load(cos + j);
      const Lanes s = Load(sin + j);
      Store(NegFma(b, s, Mul(a, c)), low + j);
      Store(Fma(a, s, Mul(b, c)), high + j);
    }
    if (j < half) {
      const size_t rest = half - j;
      const Lanes a = LoadN(low + j, rest);
      const Lanes b = LoadN(high + j, rest);
      const Lanes c = LoadN(cos + j, rest);
      const Lanes s = LoadN(sin + j, rest);
      StoreN(NegFma(b, s, Mul(a, c)), low + j, rest);
      StoreN(Fma(a, s, Mul(b, c)), high + j, rest);
    }
  }
}

// Sixteen pairs x = (a_0, b_0, a_1, b_1, ...), in place.
HWY_INLINE void RotateInterleaved16(float* x, const float* cos, const float* sin) {
  const LaneTag d;
  for (size_t i = 0; i < kLanes; i += kVectorLanes) {
    LaneVector a, b;
    hn::LoadInterleaved2(d, x + 2 * i, a, b);
    const LaneVector c = hn::LoadU(d, cos + i);
    const LaneVector s = hn::LoadU(d, sin + i);
    hn::StoreInterleaved2(hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c)), d,
                          x + 2 * i);
  }
}

void ApplyInterleavedRopeSimd(float* x, int num_heads, int head_dim, size_t half, const float* cos,
                              const float* sin) {
  for (int head = 0; head < num_heads; ++head) {
    float* in = x + static_cast<ptrdiff_t>(head) * head_dim;
    size_t j = 0;
    for (; j + kLanes <= half; j += kLanes) RotateInterleaved16(in + 2 * j, cos + j, sin + j);
    if (j < half) {
      const size_t rest = half - j;
      alignas(64) float pairs[2 * kLanes] = {};
      alignas(64) float c[kLanes] = {};
      alignas(64) float s[kLanes] = {};
      std::memcpy(pairs, in + 2 * j, 2 * rest * sizeof(float));
      std::memcpy(c, cos + j, rest * sizeof(float));
      std::memcpy(s, sin + j, rest * sizeof(float));
      RotateInterleaved16(pairs, c, s);
      std::memcpy(in + 2 * j, pairs, 2 * rest * sizeof(float));
    }
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(ApplyRopeSimd);
HWY_EXPORT(ApplyInterleavedRopeSimd);

void ApplyRope(float* x, int num_heads, int head_dim, const RopeTable& table, int position,
               RopePairs pairs) {
  if (internal::UseReference()) {
    return ref::ApplyRope(x, num_heads, head_dim, table, position, pairs);
  }
  const size_t half = static_cast<size_t>(table.rotary_dim() / 2);
  if (pairs == RopePairs::kInterleaved) {
    HWY_DYNAMIC_DISPATCH(ApplyInterleavedRopeSimd)
    (x, num_heads, head_dim, half, table.cos(position), table.sin(position));
  } else {
    HWY_DYNAMIC_DISPATCH(ApplyRopeSimd)
    (x, num_heads, head_dim, half, table.cos(position), table.sin(position));
  }
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

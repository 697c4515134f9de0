#include "kernels/highway_targets.h"
#include "kernels/reference_switch.h"
#include "kernels/rope.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rope_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

void ApplyRopeSimd(float* x, int num_heads, int head_dim, size_t half, const float* cos,
                   const float* sin) {
  for (int head = 0; head < num_heads; ++head) {
    float* low = x + static_cast<ptrdiff_t>(head) * head_dim;
    float* high = low + half;
    size_t j = 0;
    for (; j + kLanes <= half; j += kLanes) {
      const F16 a = Load(low + j);
      const F16 b = Load(high + j);
      const F16 c = Load(cos + j);
      const F16 s = Load(sin + j);
      Store(NegFma(b, s, Mul(a, c)), low + j);
      Store(Fma(a, s, Mul(b, c)), high + j);
    }
    if (j < half) {
      const size_t rest = half - j;
      const F16 a = LoadN(low + j, rest);
      const F16 b = LoadN(high + j, rest);
      const F16 c = LoadN(cos + j, rest);
      const F16 s = LoadN(sin + j, rest);
      StoreN(NegFma(b, s, Mul(a, c)), low + j, rest);
      StoreN(Fma(a, s, Mul(b, c)), high + j, rest);
    }
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(ApplyRopeSimd);

void ApplyRope(float* x, int num_heads, int head_dim, const RopeTable& table, int position) {
  if (internal::UseReference()) return ref::ApplyRope(x, num_heads, head_dim, table, position);
  HWY_DYNAMIC_DISPATCH(ApplyRopeSimd)
  (x, num_heads, head_dim, static_cast<size_t>(table.rotary_dim() / 2), table.cos(position),
   table.sin(position));
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

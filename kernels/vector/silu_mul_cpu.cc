#include "kernels/simd/highway_targets.h"
#include "kernels/simd/reference_switch.h"
#include "kernels/vector/silu_mul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector/silu_mul_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/vector/exp-inl.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

void SiluMulSimd(const float* gate, const float* up, size_t count, float* out) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Store(Mul(Silu(Load(gate + i)), Load(up + i)), out + i);
  }
  if (i < count) {
    const size_t rest = count - i;
    StoreN(Mul(Silu(LoadN(gate + i, rest)), LoadN(up + i, rest)), out + i, rest);
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(SiluMulSimd);

void SiluMul(const float* gate, const float* up, size_t count, float* out) {
  if (internal::UseReference()) return ref::SiluMul(gate, up, count, out);
  HWY_DYNAMIC_DISPATCH(SiluMulSimd)(gate, up, count, out);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

#include "kernels/vector/exp.h"
#include "kernels/simd/highway_targets.h"
#include "kernels/simd/reference_switch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector/exp_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/vector/exp-inl.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

void ExpSimd(const float* x, size_t count, float* out) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(Exp(Load(x + i)), out + i);
  if (i < count) StoreN(Exp(LoadN(x + i, count - i)), out + i, count - i);
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(ExpSimd);

void Exp(const float* x, size_t count, float* out) {
  if (internal::UseReference()) return ref::Exp(x, count, out);
  HWY_DYNAMIC_DISPATCH(ExpSimd)(x, count, out);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

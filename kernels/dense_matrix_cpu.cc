#include <cstring>

#include "kernels/dense_matrix.h"
#include "kernels/highway_targets.h"
#include "kernels/reference_switch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dense_matrix_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

void WidenToFloatSimd(const uint8_t* in, FloatFormat format, size_t count, float* out) {
  const size_t whole = count / kLanes * kLanes;
  const size_t rest = count - whole;
  if (format == FloatFormat::kBF16) {
    for (size_t i = 0; i < whole; i += kLanes) Store(LoadBF16(in + 2 * i), out + i);
    if (rest > 0) StoreN(LoadBF16N(in + 2 * whole, rest), out + whole, rest);
  } else {
    for (size_t i = 0; i < whole; i += kLanes) Store(LoadF16(in + 2 * i), out + i);
    if (rest > 0) StoreN(LoadF16N(in + 2 * whole, rest), out + whole, rest);
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(WidenToFloatSimd);

void WidenToFloat(const void* in, FloatFormat format, size_t count, float* out) {
  if (format == FloatFormat::kF32) {
    std::memcpy(out, in, count * sizeof(float));
    return;
  }
  if (internal::UseReference()) return ref::WidenToFloat(in, format, count, out);
  HWY_DYNAMIC_DISPATCH(WidenToFloatSimd)(static_cast<const uint8_t*>(in), format, count, out);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

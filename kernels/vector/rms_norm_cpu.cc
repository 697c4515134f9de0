#include "kernels/simd/highway_targets.h"
#include "kernels/simd/reference_switch.h"
#include "kernels/vector/rms_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector/rms_norm_cpu.cc"
#include <cmath>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

HWY_INLINE float SumOfSquares(const float* x, size_t n) {
  Lanes sum = Zero();
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Lanes v = Load(x + i);
    sum = Fma(v, v, sum);
  }
  if (i < n) {
    const Lanes v = LoadN(x + i, n - i);
    sum = Fma(v, v, sum);
  }
  return ReduceSum(sum);
}

void RmsNormSimd(const float* x, ptrdiff_t x_stride, const float* weight, int num_rows, int n,
                 float eps, float* out, ptrdiff_t out_stride) {
  const size_t width = static_cast<size_t>(n);
  for (int row = 0; row < num_rows; ++row) {
    const float* in = x + row * x_stride;
    float* result = out + row * out_stride;
    const float mean = SumOfSquares(in, width) / static_cast<float>(n);
    const Lanes inverse = Set(1.0f / std::sqrt(mean + eps));
    size_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      Store(Mul(Mul(Load(in + i), inverse), Load(weight + i)), result + i);
    }
    if (i < width) {
      const size_t rest = width - i;
      StoreN(Mul(Mul(LoadN(in + i, rest), inverse), LoadN(weight + i, rest)), result + i, rest);
    }
  }
}

void AddIntoSimd(const float* x, size_t count, float* y) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(Add(Load(y + i), Load(x + i)), y + i);
  for (; i < count; ++i) y[i] += x[i];
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(RmsNormSimd);
HWY_EXPORT(AddIntoSimd);

void RmsNorm(const float* x, ptrdiff_t x_stride, const float* weight, int num_rows, int n,
             float eps, float* out, ptrdiff_t out_stride) {
  if (internal::UseReference()) {
    return ref::RmsNorm(x, x_stride, weight, num_rows, n, eps, out, out_stride);
  }
  HWY_DYNAMIC_DISPATCH(RmsNormSimd)(x, x_stride, weight, num_rows, n, eps, out, out_stride);
}

void AddInto(const float* x, size_t count, float* y) {
  if (internal::UseReference()) return ref::AddInto(x, count, y);
  HWY_DYNAMIC_DISPATCH(AddIntoSimd)(x, count, y);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

#include "kernels/simd/highway_targets.h"
#include "kernels/vector/layer_norm.h"
#include "kernels/simd/reference_switch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector/layer_norm_cpu.cc"
#include <cmath>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

void LayerNormSimd(const float* x, const float* weight, const float* bias, int n, float eps,
                   float* out) {
  const size_t width = static_cast<size_t>(n);
  const size_t whole = width / kLanes * kLanes;
  const size_t rest = width - whole;
  Lanes sum = Zero();
  for (size_t i = 0; i < whole; i += kLanes) sum = Add(sum, Load(x + i));
  if (rest > 0) sum = Add(sum, LoadN(x + whole, rest));
  const Lanes mean = Set(ReduceSum(sum) / static_cast<float>(n));

  Lanes squares = Zero();
  for (size_t i = 0; i < whole; i += kLanes) {
    const Lanes centred = Sub(Load(x + i), mean);
    squares = Fma(centred, centred, squares);
  }
  if (rest > 0) {
    // The padding lies one mean from the mean: it has to become zero again.
    alignas(64) float centred[kLanes] = {};
    StoreN(Sub(LoadN(x + whole, rest), mean), centred, rest);
    squares = Fma(Load(centred), Load(centred), squares);
  }
  const Lanes inverse = Set(1.0f / std::sqrt(ReduceSum(squares) / static_cast<float>(n) + eps));

  for (size_t i = 0; i < whole; i += kLanes) {
    Store(Fma(Mul(Sub(Load(x + i), mean), inverse), Load(weight + i), Load(bias + i)), out + i);
  }
  if (rest > 0) {
    StoreN(Fma(Mul(Sub(LoadN(x + whole, rest), mean), inverse), LoadN(weight + whole, rest),
               LoadN(bias + whole, rest)),
           out + whole, rest);
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(LayerNormSimd);

void LayerNorm(const float* x, const float* weight, const float* bias, int n, float eps,
               float* out) {
  if (internal::UseReference()) return ref::LayerNorm(x, weight, bias, n, eps, out);
  HWY_DYNAMIC_DISPATCH(LayerNormSimd)(x, weight, bias, n, eps, out);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

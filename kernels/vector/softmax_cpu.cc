#include "kernels/simd/highway_targets.h"
#include "kernels/vector/log.h"
#include "kernels/simd/reference_switch.h"
#include "kernels/vector/softmax.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector/softmax_cpu.cc"
#include <limits>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/vector/exp-inl.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

float MaxOfSimd(const float* x, size_t count) {
  const float lowest = -std::numeric_limits<float>::infinity();
  Lanes max = Set(lowest);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) max = Max(Load(x + i), max);
  if (i < count) {
    alignas(64) float padded[kLanes];
    Store(Set(lowest), padded);
    std::memcpy(padded, x + i, (count - i) * sizeof(float));
    max = Max(Load(padded), max);
  }
  return ReduceMax(max);
}

// Sum of exp(x[i] - max); stores the terms too if `out` is not null.
float SumOfExpSimd(const float* x, size_t count, float max, float* out) {
  const Lanes shift = Set(max);
  Lanes sum = Zero();
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Lanes term = Exp(Sub(Load(x + i), shift));
    if (out != nullptr) Store(term, out + i);
    sum = Add(sum, term);
  }
  if (i < count) {
    const size_t rest = count - i;
    alignas(64) float padded[kLanes] = {};
    StoreN(Exp(Sub(LoadN(x + i, rest), shift)), padded, rest);  // exp of the padding is not 0
    sum = Add(sum, Load(padded));
    if (out != nullptr) std::memcpy(out + i, padded, rest * sizeof(float));
  }
  return ReduceSum(sum);
}

void DivideSimd(float* x, size_t count, float divisor) {
  const Lanes d = Set(divisor);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(Div(Load(x + i), d), x + i);
  for (; i < count; ++i) x[i] /= divisor;
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(MaxOfSimd);
HWY_EXPORT(SumOfExpSimd);
HWY_EXPORT(DivideSimd);

float MaxOf(const float* x, size_t count) {
  if (internal::UseReference()) {
    const int64_t at = ref::ArgMax(x, count);
    return at < 0 ? -std::numeric_limits<float>::infinity() : x[at];
  }
  return HWY_DYNAMIC_DISPATCH(MaxOfSimd)(x, count);
}

float LogSumExp(const float* x, size_t count) {
  if (internal::UseReference()) return ref::LogSumExp(x, count);
  const float max = HWY_DYNAMIC_DISPATCH(MaxOfSimd)(x, count);
  if (max == -std::numeric_limits<float>::infinity()) return max;
  const float total = HWY_DYNAMIC_DISPATCH(SumOfExpSimd)(x, count, max, nullptr);
  if (total != total) return total;
  return static_cast<float>(max + Log(total));
}

void Softmax(const float* x, size_t count, float* out) {
  if (internal::UseReference()) return ref::Softmax(x, count, out);
  const float max = HWY_DYNAMIC_DISPATCH(MaxOfSimd)(x, count);
  const float total = HWY_DYNAMIC_DISPATCH(SumOfExpSimd)(x, count, max, out);
  HWY_DYNAMIC_DISPATCH(DivideSimd)(out, count, total);
}

int64_t ArgMax(const float* x, size_t count) {
  if (internal::UseReference()) return ref::ArgMax(x, count);
  const float max = HWY_DYNAMIC_DISPATCH(MaxOfSimd)(x, count);
  for (size_t i = 0; i < count; ++i) {
    if (x[i] == max) return static_cast<int64_t>(i);
  }
  return -1;
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

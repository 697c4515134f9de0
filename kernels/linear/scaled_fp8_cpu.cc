#include "kernels/simd/highway_targets.h"
#include "kernels/simd/reference_switch.h"
#include "kernels/linear/scaled_fp8.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/scaled_fp8_cpu.cc"
#include <algorithm>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/attention/kv_format-inl.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

HWY_INLINE Lanes Magnitude(const Lanes& x) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) result.v[i] = hn::Abs(x.v[i]);
  return result;
}

// NaN has no part in it: Max drops its first argument then.
HWY_INLINE float LargestMagnitude(const float* x, size_t count) {
  Lanes max = Zero();
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) max = Max(Magnitude(Load(x + i)), max);
  if (i < count) max = Max(Magnitude(LoadN(x + i, count - i)), max);
  return ReduceMax(max);
}

void StoreScaledFp8Simd(const float* x, size_t count, Fp8Scale kind, uint8_t* out) {
  uint8_t* scales = out + count;
  for (size_t begin = 0; begin < count; begin += kFp8ScaleGroup, scales += sizeof(float)) {
    const size_t end = std::min(begin + kFp8ScaleGroup, count);
    const float scale = internal::Fp8GroupScale(LargestMagnitude(x + begin, end - begin), kind);
    std::memcpy(scales, &scale, sizeof(scale));
    const Lanes divisor = Set(scale);
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      StoreKv16<KvFormat::kFp8E4M3>(Div(Load(x + i), divisor), out + i);
    }
    if (i < end) {
      alignas(64) uint8_t codes[kLanes];
      StoreKv16<KvFormat::kFp8E4M3>(Div(LoadN(x + i, end - i), divisor), codes);
      std::memcpy(out + i, codes, end - i);
    }
  }
}

void LoadScaledFp8Simd(const uint8_t* in, size_t count, float* out) {
  const uint8_t* scales = in + count;
  for (size_t begin = 0; begin < count; begin += kFp8ScaleGroup, scales += sizeof(float)) {
    const size_t end = std::min(begin + kFp8ScaleGroup, count);
    float scale;
    std::memcpy(&scale, scales, sizeof(scale));
    const Lanes factor = Set(scale);
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      Store(Mul(LoadKv16<KvFormat::kFp8E4M3>(in + i), factor), out + i);
    }
    if (i < end) {
      alignas(64) uint8_t codes[kLanes] = {};
      std::memcpy(codes, in + i, end - i);
      StoreN(Mul(LoadKv16<KvFormat::kFp8E4M3>(codes), factor), out + i, end - i);
    }
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(StoreScaledFp8Simd);
HWY_EXPORT(LoadScaledFp8Simd);

void StoreScaledFp8(const float* x, size_t count, Fp8Scale kind, void* out) {
  if (internal::UseReference()) return ref::StoreScaledFp8(x, count, kind, out);
  HWY_DYNAMIC_DISPATCH(StoreScaledFp8Simd)(x, count, kind, static_cast<uint8_t*>(out));
}

void LoadScaledFp8(const void* in, size_t count, float* out) {
  if (internal::UseReference()) return ref::LoadScaledFp8(in, count, out);
  HWY_DYNAMIC_DISPATCH(LoadScaledFp8Simd)(static_cast<const uint8_t*>(in), count, out);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

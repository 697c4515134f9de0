// Sixteen e4m3fn codes times scales as sixteen float lanes. kernels/linear/dense_matrix.h is the
// contract.
//
// A code's exponent and fraction, moved to the top of a half's fraction, are a half of 2^-8 times
// the value, subnormals included; the scale takes the 2^8 back. Both steps are exact, so the one
// rounding is that of float(code) * scale.
//
// A per-target header of Highway: include it as kernels/simd/lanes-inl.h.

#if defined(SHEAF_KERNELS_E4M3_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SHEAF_KERNELS_E4M3_INL_H_
#undef SHEAF_KERNELS_E4M3_INL_H_
#else
#define SHEAF_KERNELS_E4M3_INL_H_
#endif

#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

inline constexpr float kE4M3Gain = 256.0f;  // what a scale is multiplied by

// The values divided by kE4M3Gain.
HWY_INLINE Lanes LoadE4M3(const uint8_t* p) {
  const hn::Rebind<int8_t, LaneTag> bytes;
  const hn::Rebind<int16_t, LaneTag> words;
  const hn::Rebind<hwy::float16_t, LaneTag> halves;
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) {
    const auto code = hn::PromoteTo(
        words, hn::LoadU(bytes, reinterpret_cast<const int8_t*>(p) + i * kVectorLanes));
    // The sign fills bits 15 and 14 of the shifted word; bit 14 belongs to the exponent.
    const auto bits = hn::And(hn::ShiftLeft<7>(code), hn::Set(words, static_cast<int16_t>(0xBFFF)));
    result.v[i] = hn::PromoteTo(LaneTag(), hn::BitCast(halves, bits));
  }
  return result;
}

HWY_INLINE Lanes LoadE4M3N(const uint8_t* p, size_t count) {
  alignas(64) uint8_t padded[kLanes] = {};
  std::memcpy(padded, p, count);
  return LoadE4M3(padded);
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SHEAF_KERNELS_E4M3_INL_H_

// Sixteen float lanes, whatever width the target's vectors have: one vector on AVX-512, two on
// AVX2, four on NEON.
//
// This is the unit of the determinism contract: a reduction keeps 16 partial sums, lane i taking
// elements i, i + 16, ... by fused multiply-add, and ReduceSum folds them by the fixed tree 8+8,
// 4+4, 2+2, 1+1. The scalar twin is kernels/simd/lanes_ref.h, bit for bit.
//
// Tails: LoadN pads with zeros, StoreN writes only `count` lanes. Pointers need the alignment of
// their element. Max(a, b) is a > b ? a : b on every target (so b if either is NaN).
//
// A per-target header of Highway: include it after hwy/highway.h, inside the re-included part of a
// kernel file.

#if defined(SHEAF_KERNELS_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SHEAF_KERNELS_LANES_INL_H_
#undef SHEAF_KERNELS_LANES_INL_H_
#else
#define SHEAF_KERNELS_LANES_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using LaneTag = hn::CappedTag<float, 16>;
using LaneVector = hn::Vec<LaneTag>;
inline constexpr size_t kLanes = 16;
inline constexpr size_t kVectorLanes = hn::MaxLanes(LaneTag());
inline constexpr size_t kVectors = kLanes / kVectorLanes;
static_assert(kVectors * kVectorLanes == kLanes);

struct Lanes {
  LaneVector v[kVectors];
};

HWY_INLINE Lanes Zero() {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) result.v[i] = hn::Zero(LaneTag());
  return result;
}

HWY_INLINE Lanes Set(float x) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) result.v[i] = hn::Set(LaneTag(), x);
  return result;
}

HWY_INLINE Lanes Load(const float* p) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) result.v[i] = hn::LoadU(LaneTag(), p + i * kVectorLanes);
  return result;
}

HWY_INLINE void Store(const Lanes& x, float* p) {
  for (size_t i = 0; i < kVectors; ++i) hn::StoreU(x.v[i], LaneTag(), p + i * kVectorLanes);
}

// Lanes count.. are zero. count <= 16.
HWY_INLINE Lanes LoadN(const float* p, size_t count) {
  alignas(64) float padded[kLanes] = {};
  std::memcpy(padded, p, count * sizeof(float));
  return Load(padded);
}

HWY_INLINE void StoreN(const Lanes& x, float* p, size_t count) {
  alignas(64) float padded[kLanes];
  Store(x, padded);
  std::memcpy(p, padded, count * sizeof(float));
}

// Widening loads of 16 two-byte floats, exact.
HWY_INLINE Lanes LoadBF16(const void* p) {
  const hn::Rebind<uint16_t, LaneTag> narrow;
  const hn::RebindToUnsigned<LaneTag> wide;
  const uint16_t* in = static_cast<const uint16_t*>(p);
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) {
    const auto bits = hn::PromoteTo(wide, hn::LoadU(narrow, in + i * kVectorLanes));
    result.v[i] = hn::BitCast(LaneTag(), hn::ShiftLeft<16>(bits));
  }
  return result;
}

HWY_INLINE Lanes LoadF16(const void* p) {
  const hn::Rebind<hwy::float16_t, LaneTag> narrow;
  const hwy::float16_t* in = static_cast<const hwy::float16_t*>(p);
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) {
    result.v[i] = hn::PromoteTo(LaneTag(), hn::LoadU(narrow, in + i * kVectorLanes));
  }
  return result;
}

HWY_INLINE Lanes LoadBF16N(const void* p, size_t count) {
  alignas(64) uint16_t padded[kLanes] = {};
  std::memcpy(padded, p, count * sizeof(uint16_t));
  return LoadBF16(padded);
}

HWY_INLINE Lanes LoadF16N(const void* p, size_t count) {
  alignas(64) uint16_t padded[kLanes] = {};
  std::memcpy(padded, p, count * sizeof(uint16_t));
  return LoadF16(padded);
}

HWY_INLINE Lanes Add(const Lanes& a, const Lanes& b) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) result.v[i] = hn::Add(a.v[i], b.v[i]);
  return result;
}

HWY_INLINE Lanes Sub(const Lanes& a, const Lanes& b) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) result.v[i] = hn::Sub(a.v[i], b.v[i]);
  return result;
}

HWY_INLINE Lanes Mul(const Lanes& a, const Lanes& b) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) result.v[i] = hn::Mul(a.v[i], b.v[i]);
  return result;
}

HWY_INLINE Lanes Div(const Lanes& a, const Lanes& b) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) result.v[i] = hn::Div(a.v[i], b.v[i]);
  return result;
}

// a * b + c, rounded once.
HWY_INLINE Lanes Fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) result.v[i] = hn::MulAdd(a.v[i], b.v[i], c.v[i]);
  return result;
}

// c - a * b, rounded once.
HWY_INLINE Lanes NegFma(const Lanes& a, const Lanes& b, const Lanes& c) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) result.v[i] = hn::NegMulAdd(a.v[i], b.v[i], c.v[i]);
  return result;
}

HWY_INLINE Lanes Max(const Lanes& a, const Lanes& b) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) {
    result.v[i] = hn::IfThenElse(hn::Gt(a.v[i], b.v[i]), a.v[i], b.v[i]);
  }
  return result;
}

// Folds 16 lanes: lane j takes lane j + 8, then j + 4, j + 2, j + 1. The upper vectors fold without
// leaving registers; the last steps go through memory, which every target does alike.
HWY_INLINE float ReduceSum(const Lanes& x) {
  alignas(64) float lanes[kLanes];
  if constexpr (kVectors == 4) {
    const auto four = hn::Add(hn::Add(x.v[0], x.v[2]), hn::Add(x.v[1], x.v[3]));
    hn::Store(four, LaneTag(), lanes);
  } else if constexpr (kVectors == 2) {
    const hn::Half<LaneTag> half;
    const auto eight = hn::Add(x.v[0], x.v[1]);
    hn::Store(hn::Add(hn::LowerHalf(half, eight), hn::UpperHalf(half, eight)), half, lanes);
  } else {
    const hn::Half<LaneTag> half;
    const hn::Half<decltype(half)> quarter;
    const auto eight = hn::Add(hn::LowerHalf(half, x.v[0]), hn::UpperHalf(half, x.v[0]));
    hn::Store(hn::Add(hn::LowerHalf(quarter, eight), hn::UpperHalf(quarter, eight)), quarter,
              lanes);
  }
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

// The maximum by the same tree.
HWY_INLINE float ReduceMax(const Lanes& x) {
  alignas(64) float lanes[kLanes];
  Store(x, lanes);
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) {
      lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
    }
  }
  return lanes[0];
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SHEAF_KERNELS_LANES_INL_H_

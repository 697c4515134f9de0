// exp, sigmoid and silu on sixteen lanes: range reduction and a polynomial of explicit fused
// multiply-adds, the same bits on every target and as kernels/simd/lanes_ref.h, which states the
// error bounds and special values.
//
// A per-target header of Highway: include it as kernels/simd/lanes-inl.h.

#if defined(SHEAF_KERNELS_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SHEAF_KERNELS_EXP_INL_H_
#undef SHEAF_KERNELS_EXP_INL_H_
#else
#define SHEAF_KERNELS_EXP_INL_H_
#endif

#include "kernels/simd/lanes-inl.h"
#include "kernels/simd/lanes_ref.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

HWY_INLINE LaneVector ExpVector(LaneVector x) {
  namespace c = ref::exp_constants;
  const LaneTag d;
  const hn::RebindToUnsigned<LaneTag> du;
  const auto high = hn::Set(d, c::kHighest);
  const auto low = hn::Set(d, c::kLowest);
  const auto round = hn::Set(d, c::kRound);
  const auto shifted = hn::MulAdd(x, hn::Set(d, c::kLog2e), round);
  const auto n = hn::Sub(shifted, round);
  auto r = hn::NegMulAdd(n, hn::Set(d, c::kLn2High), x);
  r = hn::NegMulAdd(n, hn::Set(d, c::kLn2Low), r);
  auto q = hn::MulAdd(hn::Set(d, c::kC7), r, hn::Set(d, c::kC6));
  q = hn::MulAdd(q, r, hn::Set(d, c::kC5));
  q = hn::MulAdd(q, r, hn::Set(d, c::kC4));
  q = hn::MulAdd(q, r, hn::Set(d, c::kC3));
  q = hn::MulAdd(q, r, hn::Set(d, c::kC2));
  const auto p = hn::Add(hn::MulAdd(q, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  const auto exponent = hn::Sub(hn::BitCast(du, shifted), hn::BitCast(du, round));
  auto result = hn::BitCast(d, hn::Add(hn::BitCast(du, p), hn::ShiftLeft<23>(exponent)));
  // Out-of-range lanes hold nonsense up to here.
  result = hn::IfThenElse(hn::Gt(x, high), hn::Inf(d), result);
  result = hn::IfThenZeroElse(hn::Lt(x, low), result);
  return hn::IfThenElse(hn::Eq(x, x), result, x);
}

HWY_INLINE Lanes Exp(const Lanes& x) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) result.v[i] = ExpVector(x.v[i]);
  return result;
}

HWY_INLINE Lanes OnePlusExpOfMinus(const Lanes& x) {
  Lanes result;
  for (size_t i = 0; i < kVectors; ++i) {
    result.v[i] = hn::Add(hn::Set(LaneTag(), 1.0f), ExpVector(hn::Neg(x.v[i])));
  }
  return result;
}

HWY_INLINE Lanes Sigmoid(const Lanes& x) { return Div(Set(1.0f), OnePlusExpOfMinus(x)); }

HWY_INLINE Lanes Silu(const Lanes& x) { return Div(x, OnePlusExpOfMinus(x)); }

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SHEAF_KERNELS_EXP_INL_H_

#pragma once
// kernels/vector/exp.h on a device, one value: the bits of ref::Exp. A pure function.

#include "kernels/cuda/device.h"
#include "kernels/simd/lanes_ref.h"

namespace sheaf::kernels::cuda {

SHEAF_DEVICE float Exp(float x) {
  namespace c = ref::exp_constants;
  if (x != x) return x;
  if (x > c::kHighest) return BitsToFloat(0x7f800000u);
  if (x < c::kLowest) return 0.0f;
  const float shifted = FusedMultiplyAdd(x, c::kLog2e, c::kRound);
  const float n = Subtract(shifted, c::kRound);
  float r = FusedMultiplyAdd(-n, c::kLn2High, x);
  r = FusedMultiplyAdd(-n, c::kLn2Low, r);
  float q = FusedMultiplyAdd(c::kC7, r, c::kC6);
  q = FusedMultiplyAdd(q, r, c::kC5);
  q = FusedMultiplyAdd(q, r, c::kC4);
  q = FusedMultiplyAdd(q, r, c::kC3);
  q = FusedMultiplyAdd(q, r, c::kC2);
  const float p = Add(FusedMultiplyAdd(q, Multiply(r, r), r), 1.0f);
  // p is in [0.7, 1.5]: adding n to its exponent multiplies by 2^n.
  return BitsToFloat(FloatBits(p) + ((FloatBits(shifted) - FloatBits(c::kRound)) << 23));
}

}  // namespace sheaf::kernels::cuda

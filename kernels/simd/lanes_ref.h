#pragma once
// The scalar twins of kernels/simd/lanes-inl.h and kernels/vector/exp-inl.h: the same operations in
// the same order, so that a reference implementation gives the bits that every SIMD target must
// give. Also used where one value is needed.
//
// Pure functions.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace sheaf::kernels::ref {

struct Lanes16 {
  float v[16] = {};

  // Takes a * b as element i of a reduction.
  void Fma(size_t i, float a, float b) { v[i % 16] = std::fma(a, b, v[i % 16]); }
  void Add(size_t i, float a) { v[i % 16] += a; }

  float Sum() const {
    float folded[16];
    std::memcpy(folded, v, sizeof(v));
    for (size_t half = 8; half > 0; half /= 2) {
      for (size_t i = 0; i < half; ++i) folded[i] += folded[i + half];
    }
    return folded[0];
  }
};

// Sum of a[i] * b[i].
inline float Dot(const float* a, const float* b, size_t count) {
  Lanes16 lanes;
  for (size_t i = 0; i < count; ++i) lanes.Fma(i, a[i], b[i]);
  return lanes.Sum();
}

// The constants of exp; kernels/vector/exp-inl.h uses the same.
namespace exp_constants {
inline constexpr float kLog2e = 0x1.715476p+0f;
inline constexpr float kLn2High = 0x1.62e43p-1f;
inline constexpr float kLn2Low = -0x1.05c61p-29f;
inline constexpr float kRound = 0x1.8p+23f;   // adding it rounds to an integer, to even on ties
inline constexpr float kHighest = 88.72283f;  // above: infinity
inline constexpr float kLowest = -87.33654f;  // below: the result would be subnormal and is 0
// exp(r) = 1 + r + r^2 q(r) on |r| <= ln(2) / 2, minimax in relative error (5e-11 before rounding).
inline constexpr float kC2 = 0.5f;
inline constexpr float kC3 = 0x1.555554p-3f;
inline constexpr float kC4 = 0x1.55548ep-5f;
inline constexpr float kC5 = 0x1.111272p-7f;
inline constexpr float kC6 = 0x1.6d8d52p-10f;
inline constexpr float kC7 = 0x1.9f085ap-13f;
}  // namespace exp_constants

// Relative error <= 1e-7; 0 where exp(x) < FLT_MIN (no subnormal results), infinity above FLT_MAX,
// NaN for NaN.
inline float Exp(float x) {
  namespace c = exp_constants;
  if (x != x) return x;
  if (x > c::kHighest) return std::numeric_limits<float>::infinity();
  if (x < c::kLowest) return 0.0f;
  const float shifted = std::fma(x, c::kLog2e, c::kRound);
  const float n = shifted - c::kRound;
  float r = std::fma(-n, c::kLn2High, x);
  r = std::fma(-n, c::kLn2Low, r);
  float q = std::fma(c::kC7, r, c::kC6);
  q = std::fma(q, r, c::kC5);
  q = std::fma(q, r, c::kC4);
  q = std::fma(q, r, c::kC3);
  q = std::fma(q, r, c::kC2);
  const float r_squared = r * r;
  const float p = std::fma(q, r_squared, r) + 1.0f;
  // p is in [0.7, 1.5]: adding n to its exponent multiplies by 2^n.
  int32_t shifted_bits, round_bits, p_bits;
  std::memcpy(&shifted_bits, &shifted, 4);
  std::memcpy(&round_bits, &c::kRound, 4);
  std::memcpy(&p_bits, &p, 4);
  const uint32_t result_bits =
      static_cast<uint32_t>(p_bits) + (static_cast<uint32_t>(shifted_bits - round_bits) << 23);
  float result;
  std::memcpy(&result, &result_bits, 4);
  return result;
}

inline float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

inline float Silu(float x) { return x / (1.0f + Exp(-x)); }

}  // namespace sheaf::kernels::ref

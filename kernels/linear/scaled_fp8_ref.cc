#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/attention/kv_format.h"
#include "kernels/linear/scaled_fp8.h"

namespace sheaf::kernels {

namespace internal {

float Fp8GroupScale(float amax, Fp8Scale kind) {
  if (kind == Fp8Scale::kExact) return std::max(amax, 448.0f * 0x1p-126f) / 448.0f;
  // 448 = 1.75 * 2^8: the scale's exponent is amax's less 8, and one more if its significand is
  // above 1.75. Exact where a rounded quotient could fall on the power of two below it.
  const uint32_t bits = std::bit_cast<uint32_t>(std::max(amax, 1e-4f));
  return std::bit_cast<float>((((bits + 0x1FFFFF) >> 23) - 8) << 23);
}

}  // namespace internal

namespace ref {

void StoreScaledFp8(const float* x, size_t count, Fp8Scale kind, void* out) {
  uint8_t* codes = static_cast<uint8_t*>(out);
  uint8_t* scales = codes + count;
  for (size_t begin = 0; begin < count; begin += kFp8ScaleGroup, scales += sizeof(float)) {
    const size_t end = std::min(begin + kFp8ScaleGroup, count);
    float amax = 0;
    for (size_t i = begin; i < end; ++i) amax = std::fabs(x[i]) > amax ? std::fabs(x[i]) : amax;
    const float scale = internal::Fp8GroupScale(amax, kind);
    std::memcpy(scales, &scale, sizeof(scale));
    for (size_t i = begin; i < end; ++i) {
      const float scaled = x[i] / scale;
      ref::StoreKv(&scaled, 1, KvFormat::kFp8E4M3, codes + i);
    }
  }
}

void LoadScaledFp8(const void* in, size_t count, float* out) {
  const uint8_t* codes = static_cast<const uint8_t*>(in);
  const uint8_t* scales = codes + count;
  ref::LoadKv(codes, count, KvFormat::kFp8E4M3, out);
  for (size_t i = 0; i < count; ++i) {
    float scale;
    std::memcpy(&scale, scales + i / kFp8ScaleGroup * sizeof(scale), sizeof(scale));
    out[i] *= scale;
  }
}

}  // namespace ref
}  // namespace sheaf::kernels

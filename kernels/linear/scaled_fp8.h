#pragma once
// fp8 e4m3 with one float32 scale for each group of 128 elements, so that every group uses the
// whole range of the format: a cached element is code * scale.
//
// Layout     [count] codes, then [ceil(count / 128)] float32 scales, without padding and without
//            alignment (132 bytes for 128 elements). The last group may be shorter.
// Scale      kExact:      max(amax, 448 * 2^-126) / 448, the group's largest magnitude becomes 448.
//            kPowerOfTwo: max(amax, 1e-4) / 448 rounded up to a power of two (ue8m0 as vLLM and
//                         DeepSeek write it): dividing by it is exact.
// Numbers    code = e4m3(x / scale), the division in float32, then round to nearest even as
//            kernels/attention/kv_format.h does; reading back multiplies in float32.
//            kernels/linear/scaled_fp8_ref.cc.
// NaN        stays NaN and has no part in amax. An infinity in a group: with kPowerOfTwo the scale
//            is 2^120, infinity comes back as infinity and the group's other elements as multiples
//            of 2^111; with kExact the whole group comes back as NaN.
// Threads    pure functions.

#include <cstddef>
#include <cstdint>

namespace sheaf::kernels {

enum class Fp8Scale : uint8_t { kExact, kPowerOfTwo };

inline constexpr size_t kFp8ScaleGroup = 128;  // elements under one scale

constexpr size_t ScaledFp8Bytes(size_t count) {
  return count + sizeof(float) * ((count + kFp8ScaleGroup - 1) / kFp8ScaleGroup);
}

void StoreScaledFp8(const float* x, size_t count, Fp8Scale kind, void* out);
void LoadScaledFp8(const void* in, size_t count, float* out);

namespace ref {
void StoreScaledFp8(const float* x, size_t count, Fp8Scale kind, void* out);
void LoadScaledFp8(const void* in, size_t count, float* out);
}  // namespace ref

namespace internal {
// The scale of a group with this largest magnitude.
float Fp8GroupScale(float amax, Fp8Scale kind);
}  // namespace internal

}  // namespace sheaf::kernels

// The tile in NEON with dot products: 16 byte products an instruction, the high and the low plane
// apart, four bytes of activations taken from a lane without a broadcast.
// Included by integer_product_cpu-inl.h alone, once for each such target; hence no guard.

#include <arm_neon.h>

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE::SHEAF_TILE {

// The name of the architecture must be that of arm_neon.h, or its intrinsics are not inlined.
#define SHEAF_NEON_DOT __attribute__((target("arch=armv8.2-a+dotprod")))

inline constexpr int kTileRows = 8;
inline constexpr int kPairRows = 0;

// Vectors of four outputs taken at once: what gives the fewest instructions from g++ 12.
template <int R>
inline constexpr int kQuarters = R == 1 ? 4 : R <= 3 ? 2 : 1;

// The planes of 32 inputs, as a tile wants them.
HWY_INLINE void CopyGranule(const int8_t* hi, const int8_t* lo, int8_t* out) {
  __builtin_memcpy(out, hi, kSumGranule);
  __builtin_memcpy(out + kSumGranule, lo, kSumGranule);
}

// Signed byte products: nibbles are below 128 as they are, bytes are taken 128 lower.
template <int kBits>
inline constexpr int kCodeBias = kBits == 8 ? 128 : 0;

// The codes less kCodeBias of four outputs in two steps: inputs 0 2 4 6 and 1 3 5 7 of each.
template <int kBits>
SHEAF_NEON_DOT inline __attribute__((always_inline)) void LoadCodes(const uint8_t* w,
                                                                    int8x16_t (&codes)[4]) {
#pragma GCC unroll 2
  for (int step = 0; step < 2; ++step, w += PackedIntegers<kBits>::kStepBytes) {
    const uint8x16_t words = vld1q_u8(w);
    if constexpr (kBits == 8) {
      const uint8x16_t sign = vdupq_n_u8(0x80);
      codes[2 * step] = vreinterpretq_s8_u8(veorq_u8(words, sign));
      codes[2 * step + 1] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w + 64), sign));
    } else {
      codes[2 * step] = vreinterpretq_s8_u8(vandq_u8(words, vdupq_n_u8(15)));
      codes[2 * step + 1] = vreinterpretq_s8_u8(vshrq_n_u8(words, 4));
    }
  }
}

// sum + the products of two steps; x holds the 16 bytes of one plane.
SHEAF_NEON_DOT inline __attribute__((always_inline)) int32x4_t DotSteps(int32x4_t sum,
                                                                        const int8x16_t (&codes)[4],
                                                                        int8x16_t x) {
  sum = vdotq_laneq_s32(sum, codes[0], x, 0);
  sum = vdotq_laneq_s32(sum, codes[1], x, 1);
  sum = vdotq_laneq_s32(sum, codes[2], x, 2);
  return vdotq_laneq_s32(sum, codes[3], x, 3);
}

// What the sums of a row's four outputs start from, for its `offset` (TileInput::offsets).
template <int kBits>
SHEAF_NEON_DOT inline __attribute__((always_inline)) int32x4_t StartOf(const uint8_t* zeros,
                                                                       int32_t offset) {
  if (zeros == nullptr) return vdupq_n_s32(offset);
  uint32_t four;
  __builtin_memcpy(&four, zeros, sizeof(four));
  const uint16x4_t narrow = vget_low_u16(vmovl_u8(vcreate_u8(four)));
  const int32x4_t zero = vreinterpretq_s32_u32(vmovl_u16(narrow));
  return vmulq_n_s32(vsubq_s32(zero, vdupq_n_s32(kCodeBias<kBits>)), offset);
}

template <int kBits, int R>
SHEAF_NEON_DOT inline __attribute__((always_inline)) void AddGranule(
    const uint8_t* w, const int8_t* x, int32x4_t (&hi)[R][kQuarters<R>],
    int32x4_t (&lo)[R][kQuarters<R>]) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half, w += 2 * PackedIntegers<kBits>::kStepBytes, x += 16) {
#pragma GCC unroll 4
    for (int q = 0; q < kQuarters<R>; ++q) {
      int8x16_t codes[4];
      LoadCodes<kBits>(w + 16 * q, codes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const int8_t* at = x + r * kGranuleBytes;
        hi[r][q] = DotSteps(hi[r][q], codes, vld1q_s8(at));
        lo[r][q] = DotSteps(lo[r][q], codes, vld1q_s8(at + kSumGranule));
      }
    }
  }
}

template <int kBits, int R, int B>
SHEAF_NEON_DOT void MultiplyTile(const TileInput& t) {
  static_assert(B == 1);
  constexpr int Q = kQuarters<R>;
  constexpr int kGranuleCodes = 4 * PackedIntegers<kBits>::kStepBytes;
  const int granules = kSumsPerGroup / t.segments_per_group;
  const size_t scale_bytes = kRowBlock * ScaleBytes(t.scale_format);
  const uint8_t* w = t.codes;
  const int8_t* x = t.x;
  int segment = 0;
  for (int group = 0; group < t.num_groups; ++group) {
    for (int part = 0; part < t.segments_per_group; ++part, ++segment) {
      for (int i = 0; i < granules; ++i) PrefetchGranule<kBits>(w + i * kGranuleCodes);
      alignas(64) float w_scales[kRowBlock];
      Store(LoadScales(t.scales + scale_bytes * segment, t.scale_format), w_scales);
      for (int output = 0; output < kRowBlock; output += 4 * Q) {
        int32x4_t hi[R][Q];
        int32x4_t lo[R][Q];
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) {
          const uint8_t* zeros =
              t.zeros == nullptr ? nullptr : t.zeros + kRowBlock * segment + output + 4 * q;
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) {
            hi[r][q] = vdupq_n_s32(0);
            lo[r][q] = StartOf<kBits>(zeros, t.offsets[segment * R + r]);
          }
        }
        const uint8_t* codes = w + 4 * output;
        const int8_t* inputs = x;
        for (int i = 0; i < granules; ++i, codes += kGranuleCodes, inputs += R * kGranuleBytes) {
          AddGranule<kBits, R>(codes, inputs, hi, lo);
        }
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) {
          const float32x4_t w_scale = vld1q_f32(w_scales + output + 4 * q);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) {
            const int32x4_t total = vaddq_s32(vshlq_n_s32(hi[r][q], 8), lo[r][q]);
            const float32x4_t scale = vmulq_n_f32(w_scale, t.x_scales[group * R + r]);
            float* acc = t.acc + r * kRowBlock + output + 4 * q;
            vst1q_f32(acc, vfmaq_f32(vld1q_f32(acc), vcvtq_f32_s32(total), scale));
          }
        }
      }
      w += granules * kGranuleCodes;
      x += granules * R * kGranuleBytes;
    }
  }
}

// 8-bit activations as they are.
template <int kBits>
inline constexpr int kByteGranuleBytes = kSumGranule;

template <int kBits>
HWY_INLINE void CopyByteGranule(const int8_t* bytes, int8_t* out) {
  __builtin_memcpy(out, bytes, kSumGranule);
}

// AddGranule of one plane.
template <int kBits, int R>
SHEAF_NEON_DOT inline __attribute__((always_inline)) void AddByteGranule(
    const uint8_t* w, const int8_t* x, int32x4_t (&sums)[R][kQuarters<R>]) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half, w += 2 * PackedIntegers<kBits>::kStepBytes, x += 16) {
#pragma GCC unroll 4
    for (int q = 0; q < kQuarters<R>; ++q) {
      int8x16_t codes[4];
      LoadCodes<kBits>(w + 16 * q, codes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        sums[r][q] = DotSteps(sums[r][q], codes, vld1q_s8(x + r * kSumGranule));
      }
    }
  }
}

template <int kBits, int R, int B>
SHEAF_NEON_DOT void MultiplyByteTile(const TileInput& t) {
  static_assert(B == 1);
  constexpr int Q = kQuarters<R>;
  constexpr int kGranuleCodes = 4 * PackedIntegers<kBits>::kStepBytes;
  const int granules = kSumsPerGroup / t.segments_per_group;
  const int num_segments = t.num_groups * t.segments_per_group;
  const size_t scale_bytes = kRowBlock * ScaleBytes(t.scale_format);
  const uint8_t* w = t.codes;
  const int8_t* x = t.x;
  for (int segment = 0; segment < num_segments; ++segment) {
    for (int i = 0; i < granules; ++i) PrefetchGranule<kBits>(w + i * kGranuleCodes);
    alignas(64) float w_scales[kRowBlock];
    Store(LoadScales(t.scales + scale_bytes * segment, t.scale_format), w_scales);
    for (int output = 0; output < kRowBlock; output += 4 * Q) {
      float32x4_t of_segment[R][Q];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) of_segment[r][q] = vdupq_n_f32(0);
      }
      const uint8_t* codes = w + 4 * output;
      const int8_t* inputs = x;
      for (int i = 0; i < granules; ++i, codes += kGranuleCodes, inputs += R * kSumGranule) {
        const int first = (segment * granules + i) * R;
        int32x4_t sums[R][Q];
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) {
          const uint8_t* zeros =
              t.zeros == nullptr ? nullptr : t.zeros + kRowBlock * segment + output + 4 * q;
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) sums[r][q] = StartOf<kBits>(zeros, t.offsets[first + r]);
        }
        AddByteGranule<kBits, R>(codes, inputs, sums);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const float32x4_t scale = vdupq_n_f32(t.x_scales[first + r]);
#pragma GCC unroll 4
          for (int q = 0; q < Q; ++q) {
            of_segment[r][q] = vfmaq_f32(of_segment[r][q], vcvtq_f32_s32(sums[r][q]), scale);
          }
        }
      }
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
        const float32x4_t w_scale = vld1q_f32(w_scales + output + 4 * q);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          float* acc = t.acc + r * kRowBlock + output + 4 * q;
          vst1q_f32(acc, vfmaq_f32(vld1q_f32(acc), of_segment[r][q], w_scale));
        }
      }
    }
    w += granules * kGranuleCodes;
    x += granules * R * kSumGranule;
  }
}

#undef SHEAF_NEON_DOT

}  // namespace sheaf::kernels::HWY_NAMESPACE::SHEAF_TILE
HWY_AFTER_NAMESPACE();

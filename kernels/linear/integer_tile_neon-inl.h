// The tile in NEON by widening products, for processors without integer_tile_neon_dot-inl.h.
// Included by integer_tile-inl.h alone, once for each such target; hence no guard.

#include <arm_neon.h>

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE::SHEAF_TILE {

inline constexpr int kTileRows = 4;
inline constexpr int kPairRows = 0;

// The planes of 32 inputs, as a tile wants them.
HWY_INLINE void CopyGranule(const int8_t* hi, const int8_t* lo, int8_t* out) {
  __builtin_memcpy(out, hi, kSumGranule);
  __builtin_memcpy(out + kSumGranule, lo, kSumGranule);
}

// Signed byte products: nibbles are below 128 as they are, bytes are taken 128 lower.
template <int kBits>
inline constexpr int kCodeBias = kBits == 8 ? 128 : 0;

// Four rows' words times four inputs each.
template <int kBits>
HWY_INLINE int32x4_t DotFour(int32x4_t sum, int8x16_t w, int8x16_t x) {
  const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
  const int16x8_t high = vmull_s8(vget_high_s8(w), vget_high_s8(x));
  if constexpr (kBits == 8) {
    // Two products may not fit 16 bits: 2 * 128 * 128.
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
  } else {
    return vpadalq_s16(sum, vpaddq_s16(low, high));
  }
}

// The codes less kCodeBias of four rows' inputs 0 2 4 6 of a step, and of 1 3 5 7.
template <int kBits>
HWY_INLINE void LoadCodes(const uint8_t* w, int8x16_t& even, int8x16_t& odd) {
  const uint8x16_t words = vld1q_u8(w);
  if constexpr (kBits == 8) {
    const uint8x16_t sign = vdupq_n_u8(0x80);
    even = vreinterpretq_s8_u8(veorq_u8(words, sign));
    odd = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w + 64), sign));
  } else {
    even = vreinterpretq_s8_u8(vandq_u8(words, vdupq_n_u8(15)));
    odd = vreinterpretq_s8_u8(vshrq_n_u8(words, 4));
  }
}

HWY_INLINE int8x16_t BroadcastFour(const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, sizeof(four));
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

template <int kBits, int R>
HWY_INLINE void AddGranule(const uint8_t* w, const int8_t* x, int32_t (*totals)[kRowBlock]) {
  for (int quarter = 0; quarter < 4; ++quarter) {
    int32x4_t hi[R];
    int32x4_t lo[R];
    for (int r = 0; r < R; ++r) hi[r] = lo[r] = vdupq_n_s32(0);
    for (int step = 0; step < 4; ++step) {
      int8x16_t even;
      int8x16_t odd;
      LoadCodes<kBits>(w + PackedIntegers<kBits>::kStepBytes * step + 16 * quarter, even, odd);
      for (int r = 0; r < R; ++r) {
        const int8_t* at = x + r * kGranuleBytes + 8 * step;
        hi[r] = DotFour<kBits>(hi[r], even, BroadcastFour(at));
        lo[r] = DotFour<kBits>(lo[r], even, BroadcastFour(at + 32));
        hi[r] = DotFour<kBits>(hi[r], odd, BroadcastFour(at + 4));
        lo[r] = DotFour<kBits>(lo[r], odd, BroadcastFour(at + 36));
      }
    }
    for (int r = 0; r < R; ++r) {
      int32_t* total = totals[r] + 4 * quarter;
      const int32x4_t sum = vaddq_s32(vshlq_n_s32(hi[r], 8), lo[r]);
      vst1q_s32(total, vaddq_s32(vld1q_s32(total), sum));
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

// totals += the products of a granule.
template <int kBits, int R>
HWY_INLINE void AddByteGranule(const uint8_t* w, const int8_t* x, int32_t (*totals)[kRowBlock]) {
  for (int quarter = 0; quarter < 4; ++quarter) {
    int32x4_t sums[R];
    for (int r = 0; r < R; ++r) sums[r] = vld1q_s32(totals[r] + 4 * quarter);
    for (int step = 0; step < 4; ++step) {
      int8x16_t even;
      int8x16_t odd;
      LoadCodes<kBits>(w + PackedIntegers<kBits>::kStepBytes * step + 16 * quarter, even, odd);
      for (int r = 0; r < R; ++r) {
        const int8_t* at = x + r * kSumGranule + 8 * step;
        sums[r] = DotFour<kBits>(sums[r], even, BroadcastFour(at));
        sums[r] = DotFour<kBits>(sums[r], odd, BroadcastFour(at + 4));
      }
    }
    for (int r = 0; r < R; ++r) vst1q_s32(totals[r] + 4 * quarter, sums[r]);
  }
}

template <int kBits, int R, int B>
void MultiplyByteTile(const TileInput& t) {
  static_assert(B == 1);
  const hn::RebindToSigned<LaneTag> ints;
  const int granules = kSumsPerGroup / t.segments_per_group;
  const int num_segments = t.num_groups * t.segments_per_group;
  const size_t scale_bytes = kRowBlock * ScaleBytes(t.scale_format);
  const uint8_t* w = t.codes;
  const int8_t* x = t.x;
  const float* x_scales = t.x_scales;
  const int32_t* offsets = t.offsets;
  for (int segment = 0; segment < num_segments; ++segment) {
    Lanes of_segment[R];
    for (int r = 0; r < R; ++r) of_segment[r] = Zero();
    for (int granule = 0; granule < granules; ++granule) {
      alignas(64) int32_t totals[R][kRowBlock];
      for (int r = 0; r < R; ++r) {
        for (int i = 0; i < kRowBlock; ++i) {
          totals[r][i] =
              t.zeros == nullptr
                  ? offsets[r]
                  : (t.zeros[kRowBlock * segment + i] - kCodeBias<kBits>) * offsets[r];
        }
      }
      PrefetchGranule<kBits>(w);
      AddByteGranule<kBits, R>(w, x, totals);
      for (int r = 0; r < R; ++r) {
        Lanes total;
        for (size_t v = 0; v < kVectors; ++v) {
          total.v[v] = hn::ConvertTo(LaneTag(), hn::Load(ints, totals[r] + v * kVectorLanes));
        }
        of_segment[r] = Fma(total, Set(x_scales[r]), of_segment[r]);
      }
      w += 4 * PackedIntegers<kBits>::kStepBytes;
      x += R * kSumGranule;
      x_scales += R;
      offsets += R;
    }
    const Lanes w_scale = LoadScales(t.scales + scale_bytes * segment, t.scale_format);
    for (int r = 0; r < R; ++r) {
      float* acc = t.acc + r * kRowBlock;
      Store(Fma(of_segment[r], w_scale, Load(acc)), acc);
    }
  }
}

template <int kBits, int R, int B>
void MultiplyTile(const TileInput& t) {
  static_assert(B == 1);
  const hn::RebindToSigned<LaneTag> ints;
  const int granules = kSumsPerGroup / t.segments_per_group;
  const size_t scale_bytes = kRowBlock * ScaleBytes(t.scale_format);
  const uint8_t* w = t.codes;
  const int8_t* x = t.x;
  int segment = 0;
  for (int group = 0; group < t.num_groups; ++group) {
    for (int part = 0; part < t.segments_per_group; ++part, ++segment) {
      alignas(64) int32_t totals[R][kRowBlock];
      for (int r = 0; r < R; ++r) {
        const int32_t offset = t.offsets[segment * R + r];
        for (int i = 0; i < kRowBlock; ++i) {
          totals[r][i] = t.zeros == nullptr
                             ? offset
                             : (t.zeros[kRowBlock * segment + i] - kCodeBias<kBits>) * offset;
        }
      }
      for (int granule = 0; granule < granules;
           ++granule, w += 4 * PackedIntegers<kBits>::kStepBytes, x += R * kGranuleBytes) {
        PrefetchGranule<kBits>(w);
        AddGranule<kBits, R>(w, x, totals);
      }
      const Lanes w_scale = LoadScales(t.scales + scale_bytes * segment, t.scale_format);
      for (int r = 0; r < R; ++r) {
        const Lanes scale = Mul(w_scale, Set(t.x_scales[group * R + r]));
        Lanes total;
        for (size_t v = 0; v < kVectors; ++v) {
          total.v[v] = hn::ConvertTo(LaneTag(), hn::Load(ints, totals[r] + v * kVectorLanes));
        }
        float* acc = t.acc + r * kRowBlock;
        Store(Fma(total, scale, Load(acc)), acc);
      }
    }
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE::SHEAF_TILE
HWY_AFTER_NAMESPACE();

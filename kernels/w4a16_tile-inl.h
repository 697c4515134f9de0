// The inner loop of the 4-bit product: R rows of activations times B row blocks over a run of
// groups, in the best byte dot product of the target. Adds to float accumulators in memory, in
// ascending segment order.
//
// All three forms do the same arithmetic (kernels/linear.h): exact integer sums of a segment, one
// float multiply-add for it. A per-target header of Highway, for kernels/w4a16_cpu.cc alone.

#if defined(SHEAF_KERNELS_W4A16_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SHEAF_KERNELS_W4A16_TILE_INL_H_
#undef SHEAF_KERNELS_W4A16_TILE_INL_H_
#else
#define SHEAF_KERNELS_W4A16_TILE_INL_H_
#endif

#include <utility>

#include "hwy/cache_control.h"
#include "kernels/lanes-inl.h"
#include "kernels/w4a16.h"

#if HWY_ARCH_X86
#include <immintrin.h>
#elif HWY_ARCH_ARM
#include <arm_neon.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

inline constexpr int kGranuleBytes = 2 * kSumGranule;

// A run of groups of some rows and of B neighbouring row blocks. The rows' planes are copied side
// by side: one address serves them all, and rows whose distance is a multiple of a page do not
// drive each other from the cache.
struct TileInput {
  const uint8_t* nibbles = nullptr;  // first block, first step of the run
  const uint8_t* scales = nullptr;   // first block, first segment of the run
  const uint8_t* zeros = nullptr;    // the same, or null
  size_t nibble_stride = 0;          // bytes from block to block
  size_t scale_stride = 0;
  size_t zero_stride = 0;
  ScaleFormat scale_format = ScaleFormat::kF16;
  int num_groups = 0;
  int segments_per_group = 0;
  const int8_t* x = nullptr;        // [granule of 32 inputs][R][32 hi bytes, 32 lo bytes]
  const float* x_scales = nullptr;  // [group][R]
  // [segment][R]: what the zero points subtract, -8 * sum; with `zeros` their factor, -sum.
  const int32_t* offsets = nullptr;
  float* acc = nullptr;  // [block][R][16]
};

HWY_INLINE F16 LoadScales(const uint8_t* scales, ScaleFormat format) {
  switch (format) {
    case ScaleFormat::kF16:
      return LoadF16(scales);
    case ScaleFormat::kBF16:
      return LoadBF16(scales);
    case ScaleFormat::kF32:
      break;
  }
  return Load(reinterpret_cast<const float*>(scales));
}

// Weights come from memory in one long stretch. The processor's own prefetching alone gave 73 % of
// the bandwidth that a plain sum of the same memory reaches, with this 90 % (one row; distances
// from 1 to 6 KiB are alike).
HWY_INLINE void PrefetchGranule(const uint8_t* w) {
  constexpr size_t kAhead = 2048;
#pragma GCC unroll 4
  for (int line = 0; line < 4; ++line) hwy::Prefetch(w + kAhead + 64 * line);
}

#if HWY_TARGET == HWY_AVX3_DL

// Highway's AVX3_DL does not name this feature, though every such machine has it.
#define SHEAF_VNNI __attribute__((target(HWY_TARGET_STR ",avx512vnni")))

inline constexpr int kTileRows = 12;
// Up to this many rows two row blocks are taken at once: more sums in flight, fewer loads for each.
inline constexpr int kPairRows = 4;

// hi and lo of B blocks += the dot products of each four bytes of w with four bytes of a row's
// planes. In assembly so that the broadcast stays a memory operand with a plain base register: from
// intrinsics g++ 12 makes registers of their own for it and then spills sums, or indexed addresses,
// which cost a micro-operation more.
template <int kAt, int B>
SHEAF_VNNI inline __attribute__((always_inline)) void AddDots(__m512i (&hi)[B], __m512i (&lo)[B],
                                                              const __m512i (&w)[B],
                                                              const int8_t* x) {
  struct FourBytes {
    int8_t bytes[4];
  };
  const auto* high = reinterpret_cast<const FourBytes*>(x + kAt);
  const auto* low = reinterpret_cast<const FourBytes*>(x + kAt + kSumGranule);
  if constexpr (B == 1) {
    asm("vpdpbusd %c[at](%[x])%{1to16%}, %[w], %[hi]\n\t"
        "vpdpbusd %c[at] + 32(%[x])%{1to16%}, %[w], %[lo]"
        : [hi] "+v"(hi[0]), [lo] "+v"(lo[0])
        : [w] "v"(w[0]), [x] "r"(x), [at] "n"(kAt), "m"(*high), "m"(*low));
  } else {
    static_assert(B == 2);
    __m512i four_high;
    __m512i four_low;
    asm("vpbroadcastd %c[at](%[x]), %[high]\n\t"
        "vpbroadcastd %c[at] + 32(%[x]), %[low]\n\t"
        "vpdpbusd %[high], %[w0], %[hi0]\n\t"
        "vpdpbusd %[low], %[w0], %[lo0]\n\t"
        "vpdpbusd %[high], %[w1], %[hi1]\n\t"
        "vpdpbusd %[low], %[w1], %[lo1]"
        : [hi0] "+v"(hi[0]), [lo0] "+v"(lo[0]), [hi1] "+v"(hi[1]), [lo1] "+v"(lo[1]),
          [high] "=&v"(four_high), [low] "=&v"(four_low)
        : [w0] "v"(w[0]), [w1] "v"(w[1]), [x] "r"(x), [at] "n"(kAt), "m"(*high), "m"(*low));
  }
}

// One step (8 inputs) of a granule; `x` points to the middle of the granule's rows, so that all of
// them are within reach of a one-byte displacement.
template <int kStep, int B, int kChains, size_t... kRow>
SHEAF_VNNI inline __attribute__((always_inline)) void AddStep(
    std::index_sequence<kRow...>, const uint8_t* w, size_t nibble_stride, const int8_t* x,
    __m512i (&hi)[kChains][sizeof...(kRow)][B], __m512i (&lo)[kChains][sizeof...(kRow)][B]) {
  constexpr int R = sizeof...(kRow);
  const __m512i low_nibble = _mm512_set1_epi8(15);
  __m512i even[B];
  __m512i odd[B];
#pragma GCC unroll 2
  for (int b = 0; b < B; ++b) {
    const __m512i words = _mm512_loadu_si512(w + b * nibble_stride + 64 * kStep);
    even[b] = _mm512_and_si512(words, low_nibble);
    odd[b] = _mm512_and_si512(_mm512_srli_epi16(words, 4), low_nibble);
  }
  constexpr int kOdd = kChains - 1;
  constexpr int kMiddle = R / 2;
  (AddDots<(int(kRow) - kMiddle) * kGranuleBytes + 8 * kStep, B>(hi[0][kRow], lo[0][kRow], even, x),
   ...);
  (AddDots<(int(kRow) - kMiddle) * kGranuleBytes + 8 * kStep + 4, B>(hi[kOdd][kRow], lo[kOdd][kRow],
                                                                     odd, x),
   ...);
}

template <int R, int B>
SHEAF_VNNI void MultiplyTile(const TileInput& t) {
  // Few sums in flight would wait for each other: even and odd inputs then get sums of their own.
  constexpr int kChains = R * B <= 2 ? 2 : 1;
  const int granules = kSumsPerGroup / t.segments_per_group;
  const size_t scale_bytes = kRowBlock * ScaleBytes(t.scale_format);
  const uint8_t* w = t.nibbles;
  const int8_t* x = t.x + R / 2 * kGranuleBytes;
  int segment = 0;
  for (int group = 0; group < t.num_groups; ++group) {
    for (int part = 0; part < t.segments_per_group; ++part, ++segment) {
      __m512i hi[kChains][R][B];
      __m512i lo[kChains][R][B];
#pragma GCC unroll 2
      for (int b = 0; b < B; ++b) {
        __m512i zero = _mm512_setzero_si512();
        if (t.zeros != nullptr) {
          const uint8_t* at = t.zeros + b * t.zero_stride + size_t{kRowBlock} * segment;
          zero = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
        }
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
          const __m512i offset = _mm512_set1_epi32(t.offsets[segment * R + r]);
          lo[0][r][b] = t.zeros == nullptr ? offset : _mm512_mullo_epi32(zero, offset);
          hi[0][r][b] = _mm512_setzero_si512();
          lo[kChains - 1][r][b] = kChains == 2 ? _mm512_setzero_si512() : lo[0][r][b];
          hi[kChains - 1][r][b] = _mm512_setzero_si512();
        }
      }
      for (int granule = 0; granule < granules; ++granule, w += 4 * 64, x += R * kGranuleBytes) {
#pragma GCC unroll 2
        for (int b = 0; b < B; ++b) PrefetchGranule(w + b * t.nibble_stride);
        AddStep<0, B, kChains>(std::make_index_sequence<R>(), w, t.nibble_stride, x, hi, lo);
        AddStep<1, B, kChains>(std::make_index_sequence<R>(), w, t.nibble_stride, x, hi, lo);
        AddStep<2, B, kChains>(std::make_index_sequence<R>(), w, t.nibble_stride, x, hi, lo);
        AddStep<3, B, kChains>(std::make_index_sequence<R>(), w, t.nibble_stride, x, hi, lo);
      }
#pragma GCC unroll 2
      for (int b = 0; b < B; ++b) {
        const uint8_t* scale_at = t.scales + b * t.scale_stride + scale_bytes * segment;
        const __m512 w_scale = LoadScales(scale_at, t.scale_format).v[0].raw;
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
          __m512i high = hi[0][r][b];
          __m512i low = lo[0][r][b];
          if constexpr (kChains == 2) {
            high = _mm512_add_epi32(high, hi[1][r][b]);
            low = _mm512_add_epi32(low, lo[1][r][b]);
          }
          const __m512i total = _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
          const __m512 scale = _mm512_mul_ps(w_scale, _mm512_set1_ps(t.x_scales[group * R + r]));
          float* acc = t.acc + (b * R + r) * kRowBlock;
          _mm512_storeu_ps(acc,
                           _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), scale, _mm512_loadu_ps(acc)));
        }
      }
    }
  }
}

#else  // not AVX3_DL

inline constexpr int kPairRows = 0;

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

#if HWY_TARGET == HWY_AVX3
inline constexpr int kTileRows = 12;
using ByteVector = __m512i;
HWY_INLINE ByteVector LoadBytes(const void* p) { return _mm512_loadu_si512(p); }
HWY_INLINE void StoreBytes(void* p, ByteVector v) { _mm512_storeu_si512(p, v); }
HWY_INLINE ByteVector ZeroBytes() { return _mm512_setzero_si512(); }
HWY_INLINE ByteVector SetFour(int32_t four) { return _mm512_set1_epi32(four); }
HWY_INLINE ByteVector EvenInputs(ByteVector v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
HWY_INLINE ByteVector OddInputs(ByteVector v) { return EvenInputs(_mm512_srli_epi16(v, 4)); }
HWY_INLINE ByteVector AddPairs(ByteVector sum, ByteVector w, ByteVector x) {
  return _mm512_add_epi16(sum, _mm512_maddubs_epi16(w, x));
}
HWY_INLINE ByteVector WidenPairs(ByteVector v) {
  return _mm512_madd_epi16(v, _mm512_set1_epi16(1));
}
HWY_INLINE ByteVector HighPlusLow(ByteVector total, ByteVector hi, ByteVector lo) {
  return _mm512_add_epi32(total, _mm512_add_epi32(_mm512_slli_epi32(hi, 8), lo));
}
#else
inline constexpr int kTileRows = 4;
using ByteVector = __m256i;
HWY_INLINE ByteVector LoadBytes(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
HWY_INLINE void StoreBytes(void* p, ByteVector v) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), v);
}
HWY_INLINE ByteVector ZeroBytes() { return _mm256_setzero_si256(); }
HWY_INLINE ByteVector SetFour(int32_t four) { return _mm256_set1_epi32(four); }
HWY_INLINE ByteVector EvenInputs(ByteVector v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
HWY_INLINE ByteVector OddInputs(ByteVector v) { return EvenInputs(_mm256_srli_epi16(v, 4)); }
HWY_INLINE ByteVector AddPairs(ByteVector sum, ByteVector w, ByteVector x) {
  return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x));
}
HWY_INLINE ByteVector WidenPairs(ByteVector v) {
  return _mm256_madd_epi16(v, _mm256_set1_epi16(1));
}
HWY_INLINE ByteVector HighPlusLow(ByteVector total, ByteVector hi, ByteVector lo) {
  return _mm256_add_epi32(total, _mm256_add_epi32(_mm256_slli_epi32(hi, 8), lo));
}
#endif

HWY_INLINE ByteVector BroadcastFour(const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, sizeof(four));
  return SetFour(four);
}

// totals[r][16] += the sums of 32 inputs (4 steps) of one row block.
template <int R>
HWY_INLINE void AddGranule(const uint8_t* w, const int8_t* x, int32_t (*totals)[kRowBlock]) {
  for (size_t half = 0; half < 64; half += sizeof(ByteVector)) {
    // 16-bit sums of up to 16 products each: at most 16 * 15 * 128 < 32768.
    ByteVector hi[R];
    ByteVector lo[R];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) hi[r] = lo[r] = ZeroBytes();
#pragma GCC unroll 4
    for (int step = 0; step < 4; ++step) {
      const ByteVector words = LoadBytes(w + 64 * step + half);
      const ByteVector even = EvenInputs(words);
      const ByteVector odd = OddInputs(words);
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const int8_t* at = x + r * kGranuleBytes + 8 * step;
        hi[r] = AddPairs(hi[r], even, BroadcastFour(at));
        lo[r] = AddPairs(lo[r], even, BroadcastFour(at + 32));
        hi[r] = AddPairs(hi[r], odd, BroadcastFour(at + 4));
        lo[r] = AddPairs(lo[r], odd, BroadcastFour(at + 36));
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      int32_t* total = totals[r] + half / sizeof(int32_t);
      StoreBytes(total, HighPlusLow(LoadBytes(total), WidenPairs(hi[r]), WidenPairs(lo[r])));
    }
  }
}

#elif HWY_ARCH_ARM

inline constexpr int kTileRows = 4;

// Four rows' words times four inputs each: nibbles are below 128, so signed products serve.
HWY_INLINE int32x4_t DotFour(int32x4_t sum, int8x16_t w, int8x16_t x) {
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(sum, w, x);
#else
  const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
  const int16x8_t high = vmull_s8(vget_high_s8(w), vget_high_s8(x));
  return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
}

HWY_INLINE int8x16_t BroadcastFour(const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, sizeof(four));
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

template <int R>
HWY_INLINE void AddGranule(const uint8_t* w, const int8_t* x, int32_t (*totals)[kRowBlock]) {
  const uint8x16_t low_nibble = vdupq_n_u8(15);
  for (int quarter = 0; quarter < 4; ++quarter) {
    int32x4_t hi[R];
    int32x4_t lo[R];
    for (int r = 0; r < R; ++r) hi[r] = lo[r] = vdupq_n_s32(0);
    for (int step = 0; step < 4; ++step) {
      const uint8x16_t words = vld1q_u8(w + 64 * step + 16 * quarter);
      const int8x16_t even = vreinterpretq_s8_u8(vandq_u8(words, low_nibble));
      const int8x16_t odd = vreinterpretq_s8_u8(vshrq_n_u8(words, 4));
      for (int r = 0; r < R; ++r) {
        const int8_t* at = x + r * kGranuleBytes + 8 * step;
        hi[r] = DotFour(hi[r], even, BroadcastFour(at));
        lo[r] = DotFour(lo[r], even, BroadcastFour(at + 32));
        hi[r] = DotFour(hi[r], odd, BroadcastFour(at + 4));
        lo[r] = DotFour(lo[r], odd, BroadcastFour(at + 36));
      }
    }
    for (int r = 0; r < R; ++r) {
      int32_t* total = totals[r] + 4 * quarter;
      const int32x4_t sum = vaddq_s32(vshlq_n_s32(hi[r], 8), lo[r]);
      vst1q_s32(total, vaddq_s32(vld1q_s32(total), sum));
    }
  }
}

#else
#error "kernels/w4a16_tile-inl.h has no byte dot product for this architecture"
#endif

template <int R, int B>
void MultiplyTile(const TileInput& t) {
  static_assert(B == 1);
  const hn::RebindToSigned<LaneTag> ints;
  const int granules = kSumsPerGroup / t.segments_per_group;
  const size_t scale_bytes = kRowBlock * ScaleBytes(t.scale_format);
  const uint8_t* w = t.nibbles;
  const int8_t* x = t.x;
  int segment = 0;
  for (int group = 0; group < t.num_groups; ++group) {
    for (int part = 0; part < t.segments_per_group; ++part, ++segment) {
      alignas(64) int32_t totals[R][kRowBlock];
      for (int r = 0; r < R; ++r) {
        const int32_t offset = t.offsets[segment * R + r];
        for (int i = 0; i < kRowBlock; ++i) {
          totals[r][i] = t.zeros == nullptr ? offset : t.zeros[kRowBlock * segment + i] * offset;
        }
      }
      for (int granule = 0; granule < granules; ++granule, w += 4 * 64, x += R * kGranuleBytes) {
        PrefetchGranule(w);
        AddGranule<R>(w, x, totals);
      }
      const F16 w_scale = LoadScales(t.scales + scale_bytes * segment, t.scale_format);
      for (int r = 0; r < R; ++r) {
        const F16 scale = Mul(w_scale, Set(t.x_scales[group * R + r]));
        F16 total;
        for (size_t v = 0; v < kVectors; ++v) {
          total.v[v] = hn::ConvertTo(LaneTag(), hn::Load(ints, totals[r] + v * kVectorLanes));
        }
        float* acc = t.acc + r * kRowBlock;
        Store(Fma(total, scale, Load(acc)), acc);
      }
    }
  }
}

#endif  // AVX3_DL or not

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SHEAF_KERNELS_W4A16_TILE_INL_H_

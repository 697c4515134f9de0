// The tile in AVX-512 VNNI: 64 byte products an instruction, the high and the low plane apart.
// Included by integer_tile-inl.h alone, once for each such target; hence no guard.

#include <immintrin.h>

#include <utility>

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE::SHEAF_TILE {

// Highway's AVX3_DL does not name this feature, though every such machine has it.
#define SHEAF_VNNI __attribute__((target(HWY_TARGET_STR ",avx512vnni")))

inline constexpr int kTileRows = 12;
// Up to this many rows two row blocks are taken at once: more sums in flight, fewer loads for each.
inline constexpr int kPairRows = 4;

template <int kBits>
inline constexpr int kCodeBias = 0;

// The planes of 32 inputs, as a tile wants them.
HWY_INLINE void CopyGranule(const int8_t* hi, const int8_t* lo, int8_t* out) {
  __builtin_memcpy(out, hi, kSumGranule);
  __builtin_memcpy(out + kSumGranule, lo, kSumGranule);
}

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

// The codes of a step's inputs 0 2 4 6, and of 1 3 5 7.
template <int kBits>
SHEAF_VNNI inline __attribute__((always_inline)) void LoadCodes(const uint8_t* w, __m512i& even,
                                                                __m512i& odd) {
  even = _mm512_loadu_si512(w);
  if constexpr (kBits == 8) {
    odd = _mm512_loadu_si512(w + 64);
  } else {
    const __m512i low_nibble = _mm512_set1_epi8(15);
    odd = _mm512_and_si512(_mm512_srli_epi16(even, 4), low_nibble);
    even = _mm512_and_si512(even, low_nibble);
  }
}

// One step (8 inputs) of a granule; `x` points to the middle of the granule's rows, so that all of
// them are within reach of a one-byte displacement.
template <int kBits, int kStep, int B, int kChains, size_t... kRow>
SHEAF_VNNI inline __attribute__((always_inline)) void AddStep(
    std::index_sequence<kRow...>, const uint8_t* w, size_t code_stride, const int8_t* x,
    __m512i (&hi)[kChains][sizeof...(kRow)][B], __m512i (&lo)[kChains][sizeof...(kRow)][B]) {
  constexpr int R = sizeof...(kRow);
  __m512i even[B];
  __m512i odd[B];
#pragma GCC unroll 2
  for (int b = 0; b < B; ++b) {
    const uint8_t* const step = w + b * code_stride + PackedIntegers<kBits>::kStepBytes * kStep;
    LoadCodes<kBits>(step, even[b], odd[b]);
  }
  constexpr int kOdd = kChains - 1;
  constexpr int kMiddle = R / 2;
  (AddDots<(int(kRow) - kMiddle) * kGranuleBytes + 8 * kStep, B>(hi[0][kRow], lo[0][kRow], even, x),
   ...);
  (AddDots<(int(kRow) - kMiddle) * kGranuleBytes + 8 * kStep + 4, B>(hi[kOdd][kRow], lo[kOdd][kRow],
                                                                     odd, x),
   ...);
}

// 8-bit activations as they are.
template <int kBits>
inline constexpr int kByteGranuleBytes = kSumGranule;

template <int kBits>
HWY_INLINE void CopyByteGranule(const int8_t* bytes, int8_t* out) {
  __builtin_memcpy(out, bytes, kSumGranule);
}

// AddDots of one plane.
template <int kAt, int B>
SHEAF_VNNI inline __attribute__((always_inline)) void AddByteDots(__m512i (&sums)[B],
                                                                  const __m512i (&w)[B],
                                                                  const int8_t* x) {
  struct FourBytes {
    int8_t bytes[4];
  };
  const auto* four = reinterpret_cast<const FourBytes*>(x + kAt);
  if constexpr (B == 1) {
    asm("vpdpbusd %c[at](%[x])%{1to16%}, %[w], %[sum]"
        : [sum] "+v"(sums[0])
        : [w] "v"(w[0]), [x] "r"(x), [at] "n"(kAt), "m"(*four));
  } else {
    static_assert(B == 2);
    __m512i all;
    asm("vpbroadcastd %c[at](%[x]), %[all]\n\t"
        "vpdpbusd %[all], %[w0], %[s0]\n\t"
        "vpdpbusd %[all], %[w1], %[s1]"
        : [s0] "+v"(sums[0]), [s1] "+v"(sums[1]), [all] "=&v"(all)
        : [w0] "v"(w[0]), [w1] "v"(w[1]), [x] "r"(x), [at] "n"(kAt), "m"(*four));
  }
}

// AddStep of one plane.
template <int kBits, int kStep, int B, size_t... kRow>
SHEAF_VNNI inline __attribute__((always_inline)) void AddByteStep(
    std::index_sequence<kRow...>, const uint8_t* w, size_t code_stride, const int8_t* x,
    __m512i (&sums)[sizeof...(kRow)][B]) {
  __m512i even[B];
  __m512i odd[B];
#pragma GCC unroll 2
  for (int b = 0; b < B; ++b) {
    const uint8_t* const step = w + b * code_stride + PackedIntegers<kBits>::kStepBytes * kStep;
    LoadCodes<kBits>(step, even[b], odd[b]);
  }
  constexpr int kMiddle = int{sizeof...(kRow)} / 2;
  (AddByteDots<(int(kRow) - kMiddle) * kSumGranule + 8 * kStep, B>(sums[kRow], even, x), ...);
  (AddByteDots<(int(kRow) - kMiddle) * kSumGranule + 8 * kStep + 4, B>(sums[kRow], odd, x), ...);
}

template <int kBits, int R, int B>
SHEAF_VNNI void MultiplyByteTile(const TileInput& t) {
  const int granules = kSumsPerGroup / t.segments_per_group;
  const int num_segments = t.num_groups * t.segments_per_group;
  const size_t scale_bytes = kRowBlock * ScaleBytes(t.scale_format);
  const uint8_t* w = t.codes;
  const int8_t* x = t.x + R / 2 * kSumGranule;
  const float* x_scales = t.x_scales;
  const int32_t* offsets = t.offsets;
  for (int segment = 0; segment < num_segments; ++segment) {
    __m512 of_segment[R][B];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int b = 0; b < B; ++b) of_segment[r][b] = _mm512_setzero_ps();
    }
    for (int granule = 0; granule < granules; ++granule) {
      __m512i sums[R][B];
#pragma GCC unroll 2
      for (int b = 0; b < B; ++b) {
        __m512i zero = _mm512_setzero_si512();
        if (t.zeros != nullptr) {
          const uint8_t* at = t.zeros + b * t.zero_stride + size_t{kRowBlock} * segment;
          zero = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
        }
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
          const __m512i offset = _mm512_set1_epi32(offsets[r]);
          sums[r][b] = t.zeros == nullptr ? offset : _mm512_mullo_epi32(zero, offset);
        }
        PrefetchGranule<kBits>(w + b * t.code_stride);
      }
      AddByteStep<kBits, 0, B>(std::make_index_sequence<R>(), w, t.code_stride, x, sums);
      AddByteStep<kBits, 1, B>(std::make_index_sequence<R>(), w, t.code_stride, x, sums);
      AddByteStep<kBits, 2, B>(std::make_index_sequence<R>(), w, t.code_stride, x, sums);
      AddByteStep<kBits, 3, B>(std::make_index_sequence<R>(), w, t.code_stride, x, sums);
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const __m512 scale = _mm512_set1_ps(x_scales[r]);
#pragma GCC unroll 2
        for (int b = 0; b < B; ++b) {
          of_segment[r][b] =
              _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][b]), scale, of_segment[r][b]);
        }
      }
      w += 4 * PackedIntegers<kBits>::kStepBytes;
      x += R * kSumGranule;
      x_scales += R;
      offsets += R;
    }
#pragma GCC unroll 2
    for (int b = 0; b < B; ++b) {
      const uint8_t* scale_at = t.scales + b * t.scale_stride + scale_bytes * segment;
      const __m512 w_scale = LoadScales(scale_at, t.scale_format).v[0].raw;
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        float* acc = t.acc + (b * R + r) * kRowBlock;
        _mm512_storeu_ps(acc, _mm512_fmadd_ps(of_segment[r][b], w_scale, _mm512_loadu_ps(acc)));
      }
    }
  }
}

template <int kBits, int R, int B>
SHEAF_VNNI void MultiplyTile(const TileInput& t) {
  // Few sums in flight would wait for each other: even and odd inputs then get sums of their own.
  constexpr int kChains = R * B <= 2 ? 2 : 1;
  const int granules = kSumsPerGroup / t.segments_per_group;
  const size_t scale_bytes = kRowBlock * ScaleBytes(t.scale_format);
  const uint8_t* w = t.codes;
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
      for (int granule = 0; granule < granules;
           ++granule, w += 4 * PackedIntegers<kBits>::kStepBytes, x += R * kGranuleBytes) {
#pragma GCC unroll 2
        for (int b = 0; b < B; ++b) PrefetchGranule<kBits>(w + b * t.code_stride);
        AddStep<kBits, 0, B, kChains>(std::make_index_sequence<R>(), w, t.code_stride, x, hi, lo);
        AddStep<kBits, 1, B, kChains>(std::make_index_sequence<R>(), w, t.code_stride, x, hi, lo);
        AddStep<kBits, 2, B, kChains>(std::make_index_sequence<R>(), w, t.code_stride, x, hi, lo);
        AddStep<kBits, 3, B, kChains>(std::make_index_sequence<R>(), w, t.code_stride, x, hi, lo);
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

}  // namespace sheaf::kernels::HWY_NAMESPACE::SHEAF_TILE
HWY_AFTER_NAMESPACE();

// The tile in AVX2 and in AVX-512 without VNNI: `pmaddwd`, codes widened to 16 bits times 16-bit
// activations. As many multiply-adds an instruction as byte products would give (two planes cost
// two of those), with half the sums to keep and no 16-bit sums that could overflow.
//
// 8-bit activations: nibbles times bytes by `pmaddubsw`, twice as many an instruction. A 16-bit sum
// takes 16 products of a granule, at most 16 * 15 * 127 = 30480. Products of two bytes do not fit
// (2 * 255 * 127), and taking them apart costs what it saves: 8-bit codes meet activations widened
// to 16 bits. Included by integer_tile-inl.h alone, once for each such target; hence no guard.

#include <immintrin.h>

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE::SHEAF_TILE {

inline constexpr int kPairRows = 0;

template <int kBits>
inline constexpr int kCodeBias = 0;

// A row block's 16 words fill kParts vectors. As many rows as leave registers for a word, its
// nibbles and a broadcast.
#if HWY_TARGET == HWY_AVX3
inline constexpr int kTileRows = 12;
inline constexpr int kParts = 1;
using Words = __m512i;
using Sums = __m512;
HWY_INLINE Words LoadWords(const void* p) { return _mm512_loadu_si512(p); }
HWY_INLINE Words SetWords(int32_t word) { return _mm512_set1_epi32(word); }
HWY_INLINE Words And(Words a, Words b) { return _mm512_and_si512(a, b); }
template <int kBits>
HWY_INLINE Words ShiftRight(Words v) {
  return _mm512_srli_epi16(v, kBits);
}
HWY_INLINE Words ZeroPoints(const uint8_t* zeros) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros)));
}
HWY_INLINE Words MulWords(Words a, Words b) { return _mm512_mullo_epi32(a, b); }
HWY_INLINE Sums ToFloat(Words v) { return _mm512_cvtepi32_ps(v); }
HWY_INLINE Words AddWords(Words a, Words b) { return _mm512_add_epi32(a, b); }
HWY_INLINE Words SumPairs(Words v) { return _mm512_madd_epi16(v, _mm512_set1_epi16(1)); }
#else
inline constexpr int kTileRows = 6;
inline constexpr int kParts = 2;
using Words = __m256i;
using Sums = __m256;
HWY_INLINE Words LoadWords(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
HWY_INLINE Words SetWords(int32_t word) { return _mm256_set1_epi32(word); }
HWY_INLINE Words And(Words a, Words b) { return _mm256_and_si256(a, b); }
template <int kBits>
HWY_INLINE Words ShiftRight(Words v) {
  return _mm256_srli_epi16(v, kBits);
}
HWY_INLINE Words ZeroPoints(const uint8_t* zeros) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros)));
}
HWY_INLINE Words MulWords(Words a, Words b) { return _mm256_mullo_epi32(a, b); }
HWY_INLINE Sums ToFloat(Words v) { return _mm256_cvtepi32_ps(v); }
HWY_INLINE Words AddWords(Words a, Words b) { return _mm256_add_epi32(a, b); }
HWY_INLINE Words SumPairs(Words v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }
#endif
inline constexpr int kPartBytes = sizeof(Words);
inline constexpr int kPartLanes = kPartBytes / 4;

// 16-bit values q = 256 hi + lo of 32 inputs. A word's bits 4j.. and 4j+16.. are the inputs j and
// j+4 of its 8, so these two are neighbours here: the even places of a plane's run of 8 hold 0 4 1
// 5, the odd ones 2 6 3 7. First the even places of all four runs, then the odd ones.
HWY_INLINE void CopyGranule(const int8_t* hi, const int8_t* lo, int8_t* out) {
  const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(hi));
  const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lo));
  const __m256i even =
      _mm256_add_epi16(_mm256_slli_epi16(high, 8), _mm256_srai_epi16(_mm256_slli_epi16(low, 8), 8));
  const __m256i odd =
      _mm256_add_epi16(_mm256_and_si256(high, _mm256_set1_epi16(-256)), _mm256_srai_epi16(low, 8));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), even);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32), odd);
}

// sums += a row's pair at x times every word's pair of codes.
HWY_INLINE void AddPair(Words (&sums)[kParts], const Words (&codes)[kParts], const int8_t* x) {
  struct Pair {
    int16_t inputs[2];
  };
  const auto* pair = reinterpret_cast<const Pair*>(x);
#if HWY_TARGET == HWY_AVX3
  int32_t bits;
  __builtin_memcpy(&bits, pair, sizeof(bits));
  sums[0] = _mm512_add_epi32(sums[0], _mm512_madd_epi16(codes[0], _mm512_set1_epi32(bits)));
#else
  // In assembly because twelve sums, two vectors of codes and these two leave no register free, and
  // from intrinsics g++ 12 orders the products so that it needs more and spills.
  Words first;
  Words second;
  asm("vpbroadcastd %[pair], %[first]\n\t"
      "vpmaddwd %[first], %[c1], %[second]\n\t"
      "vpmaddwd %[first], %[c0], %[first]\n\t"
      "vpaddd %[second], %[s1], %[s1]\n\t"
      "vpaddd %[first], %[s0], %[s0]"
      : [s0] "+x"(sums[0]), [s1] "+x"(sums[1]), [first] "=&x"(first), [second] "=&x"(second)
      : [c0] "x"(codes[0]), [c1] "x"(codes[1]), [pair] "m"(*pair));
#endif
}

// Every word's codes of a step's inputs kPair and kPair + 4, as 16-bit numbers.
template <int kBits, int kPair>
HWY_INLINE Words LoadPair(const uint8_t* w) {
  if constexpr (kBits == 8) {
    const Words words = LoadWords(w + kPair % 2 * 64);
    return kPair < 2 ? And(words, SetWords(0x00ff00ff)) : ShiftRight<8>(words);
  } else {
    const Words shifted = ShiftRight<4 * kPair>(LoadWords(w));
    return kPair == 3 ? shifted : And(shifted, SetWords(0x000f000f));
  }
}

// Two of the 8 inputs of a step: every row's pair times the 16 words' codes kPair and kPair + 4.
template <int kBits, int kPair, int R>
HWY_INLINE void AddCodePair(const uint8_t* w, const int8_t* x, Words (&sums)[R][kParts]) {
  Words codes[kParts];
#pragma GCC unroll 2
  for (int part = 0; part < kParts; ++part) {
    codes[part] = LoadPair<kBits, kPair>(w + part * kPartBytes);
  }
  constexpr int kAt = kPair / 2 * 32 + kPair % 2 * 4;
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) AddPair(sums[r], codes, x + r * kGranuleBytes + kAt);
}

// Of 8-bit activations; of 8-bit codes the same form as above.
template <int kBits>
inline constexpr int kByteGranuleBytes = kBits == 8 ? kGranuleBytes : kSumGranule;

template <int kBits>
HWY_INLINE void CopyByteGranule(const int8_t* bytes, int8_t* out) {
  const __m256i run = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
  if constexpr (kBits == 8) {
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(run, 8), 8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), even);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32), _mm256_srai_epi16(run, 8));
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), run);
  }
}

// 16-bit sums += a row's four bytes at x times every word's four nibbles, by pairs.
HWY_INLINE void AddFour(Words (&sums)[kParts], const Words (&codes)[kParts], const int8_t* x) {
  struct Four {
    int8_t inputs[4];
  };
  const auto* four = reinterpret_cast<const Four*>(x);
#if HWY_TARGET == HWY_AVX3
  int32_t bits;
  __builtin_memcpy(&bits, four, sizeof(bits));
  sums[0] = _mm512_add_epi16(sums[0], _mm512_maddubs_epi16(codes[0], _mm512_set1_epi32(bits)));
#else
  // In assembly for the reason of AddPair.
  Words first;
  Words second;
  asm("vpbroadcastd %[four], %[first]\n\t"
      "vpmaddubsw %[first], %[c1], %[second]\n\t"
      "vpmaddubsw %[first], %[c0], %[first]\n\t"
      "vpaddw %[second], %[s1], %[s1]\n\t"
      "vpaddw %[first], %[s0], %[s0]"
      : [s0] "+x"(sums[0]), [s1] "+x"(sums[1]), [first] "=&x"(first), [second] "=&x"(second)
      : [c0] "x"(codes[0]), [c1] "x"(codes[1]), [four] "m"(*four));
#endif
}

// Half of the 8 inputs of a step: every row's four bytes times the 16 words' nibbles of inputs
// 0 2 4 6 (kOdd = 0), or of 1 3 5 7.
template <int kOdd, int R>
HWY_INLINE void AddNibbles(const uint8_t* w, const int8_t* x, Words (&sums)[R][kParts]) {
  Words codes[kParts];
#pragma GCC unroll 2
  for (int part = 0; part < kParts; ++part) {
    const Words words = LoadWords(w + part * kPartBytes);
    codes[part] = And(kOdd == 0 ? words : ShiftRight<4>(words), SetWords(0x0f0f0f0f));
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) AddFour(sums[r], codes, x + r * kSumGranule + 4 * kOdd);
}

template <int kBits, int R, int B>
void MultiplyByteTile(const TileInput& t) {
  static_assert(B == 1);
  constexpr int kStepBytes = PackedIntegers<kBits>::kStepBytes;
  const int granules = kSumsPerGroup / t.segments_per_group;
  const int num_segments = t.num_groups * t.segments_per_group;
  const size_t scale_bytes = kRowBlock * ScaleBytes(t.scale_format);
  const uint8_t* w = t.codes;
  const int8_t* x = t.x;
  const float* x_scales = t.x_scales;
  const int32_t* offsets = t.offsets;
  for (int segment = 0; segment < num_segments; ++segment) {
    Lanes of_segment[R];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) of_segment[r] = Zero();
    for (int granule = 0; granule < granules; ++granule) {
      Words sums[R][kParts];
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) sums[r][part] = SetWords(0);
      }
      PrefetchGranule<kBits>(w);
#pragma GCC unroll 1
      for (int step = 0; step < 4; ++step) {
        if constexpr (kBits == 8) {
          AddCodePair<kBits, 0>(w + kStepBytes * step, x + 8 * step, sums);
          AddCodePair<kBits, 1>(w + kStepBytes * step, x + 8 * step, sums);
          AddCodePair<kBits, 2>(w + kStepBytes * step, x + 8 * step, sums);
          AddCodePair<kBits, 3>(w + kStepBytes * step, x + 8 * step, sums);
        } else {
          AddNibbles<0>(w + kStepBytes * step, x + 8 * step, sums);
          AddNibbles<1>(w + kStepBytes * step, x + 8 * step, sums);
        }
      }
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const Words offset = SetWords(offsets[r]);
        const Lanes scale = Set(x_scales[r]);
        Lanes total;
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) {
          const Words sum = kBits == 8 ? sums[r][part] : SumPairs(sums[r][part]);
          const Words zero =
              t.zeros == nullptr
                  ? offset
                  : MulWords(offset, ZeroPoints(t.zeros + kRowBlock * segment + kPartLanes * part));
          total.v[part].raw = ToFloat(AddWords(sum, zero));
        }
        of_segment[r] = Fma(total, scale, of_segment[r]);
      }
      w += 4 * kStepBytes;
      x += R * kByteGranuleBytes<kBits>;
      x_scales += R;
      offsets += R;
    }
    const Lanes w_scale = LoadScales(t.scales + scale_bytes * segment, t.scale_format);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      float* acc = t.acc + r * kRowBlock;
      Store(Fma(of_segment[r], w_scale, Load(acc)), acc);
    }
  }
}

template <int kBits, int R, int B>
void MultiplyTile(const TileInput& t) {
  static_assert(B == 1);
  constexpr int kStepBytes = PackedIntegers<kBits>::kStepBytes;
  const int granules = kSumsPerGroup / t.segments_per_group;
  const size_t scale_bytes = kRowBlock * ScaleBytes(t.scale_format);
  const uint8_t* w = t.codes;
  const int8_t* x = t.x;
  int segment = 0;
  for (int group = 0; group < t.num_groups; ++group) {
    for (int in_group = 0; in_group < t.segments_per_group; ++in_group, ++segment) {
      Words sums[R][kParts];
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const Words offset = SetWords(t.offsets[segment * R + r]);
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) {
          sums[r][part] =
              t.zeros == nullptr
                  ? offset
                  : MulWords(offset, ZeroPoints(t.zeros + kRowBlock * segment + kPartLanes * part));
        }
      }
      for (int granule = 0; granule < granules;
           ++granule, w += 4 * kStepBytes, x += R * kGranuleBytes) {
        PrefetchGranule<kBits>(w);
#pragma GCC unroll 1
        for (int step = 0; step < 4; ++step) {
          AddCodePair<kBits, 0>(w + kStepBytes * step, x + 8 * step, sums);
          AddCodePair<kBits, 1>(w + kStepBytes * step, x + 8 * step, sums);
          AddCodePair<kBits, 2>(w + kStepBytes * step, x + 8 * step, sums);
          AddCodePair<kBits, 3>(w + kStepBytes * step, x + 8 * step, sums);
        }
      }
      const Lanes w_scale = LoadScales(t.scales + scale_bytes * segment, t.scale_format);
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const Lanes scale = Mul(w_scale, Set(t.x_scales[group * R + r]));
        Lanes total;
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) total.v[part].raw = ToFloat(sums[r][part]);
        float* acc = t.acc + r * kRowBlock;
        Store(Fma(total, scale, Load(acc)), acc);
      }
    }
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE::SHEAF_TILE
HWY_AFTER_NAMESPACE();

// What the inner loops of the integer product (integer_tile-inl.h) are given, and the two things
// that they do alike.

#if defined(SHEAF_KERNELS_INTEGER_TILE_INPUT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SHEAF_KERNELS_INTEGER_TILE_INPUT_INL_H_
#undef SHEAF_KERNELS_INTEGER_TILE_INPUT_INL_H_
#else
#define SHEAF_KERNELS_INTEGER_TILE_INPUT_INL_H_
#endif

#include "hwy/cache_control.h"
#include "kernels/simd/lanes-inl.h"
#include "kernels/linear/packed_integers.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

inline constexpr int kGranuleBytes = 2 * kSumGranule;

// A run of groups of some rows and of B neighbouring row blocks. The rows' planes are copied side
// by side: one address serves them all, and rows whose distance is a multiple of a page do not
// drive each other from the cache.
struct TileInput {
  const uint8_t* codes = nullptr;   // first block, first step of the run
  const uint8_t* scales = nullptr;   // first block, first segment of the run
  const uint8_t* zeros = nullptr;    // the same, or null
  size_t code_stride = 0;          // bytes from block to block
  size_t scale_stride = 0;
  size_t zero_stride = 0;
  ScaleFormat scale_format = ScaleFormat::kF16;
  int num_groups = 0;
  int segments_per_group = 0;
  const int8_t* x = nullptr;        // [granule of 32 inputs][R][64 bytes, by CopyGranule]
  const float* x_scales = nullptr;  // [group][R]; of 8-bit activations [granule][R]
  // [segment][R]; of 8-bit activations [granule][R]: what the zero points subtract, (kCodeBias -
  // symmetric zero) * sum; with `zeros` the factor of zero - kCodeBias, -sum.
  const int32_t* offsets = nullptr;
  float* acc = nullptr;  // [block][R][16]
};

HWY_INLINE Lanes LoadScales(const uint8_t* scales, ScaleFormat format) {
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
template <int kBits>
HWY_INLINE void PrefetchGranule(const uint8_t* w) {
  constexpr size_t kAhead = 2048;
#pragma GCC unroll 8
  for (int line = 0; line < kBits; ++line) hwy::Prefetch(w + kAhead + 64 * line);
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SHEAF_KERNELS_INTEGER_TILE_INPUT_INL_H_

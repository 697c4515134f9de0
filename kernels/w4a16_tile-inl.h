// The inner loop of the 4-bit product: R rows of activations times B row blocks over a run of
// groups, in the best dot product of the target. Adds to float accumulators in memory, in ascending
// segment order. Each target gives
//
//   CopyGranule(hi, lo, out)     32 inputs of a row, from planes to the form its loop reads
//   MultiplyTile<R, B>(input)    R up to kTileRows; B = 2 only for R up to kPairRows
//
// All forms do the same arithmetic (kernels/linear.h): exact integer sums of a segment, one float
// multiply-add for it. A per-target header of Highway, for kernels/w4a16_cpu.cc alone.

#if defined(SHEAF_KERNELS_W4A16_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SHEAF_KERNELS_W4A16_TILE_INL_H_
#undef SHEAF_KERNELS_W4A16_TILE_INL_H_
#else
#define SHEAF_KERNELS_W4A16_TILE_INL_H_
#endif

#include "kernels/w4a16_tile_input-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
#include "kernels/w4a16_tile_vnni-inl.h"
#elif HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
#include "kernels/w4a16_tile_madd-inl.h"
#elif HWY_ARCH_ARM
#include "kernels/w4a16_tile_neon-inl.h"
#else
#error "kernels/w4a16_tile-inl.h has no 4-bit product for this architecture"
#endif

#endif  // SHEAF_KERNELS_W4A16_TILE_INL_H_

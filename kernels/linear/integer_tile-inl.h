// The inner loop of the product with integer weights: R rows of activations times B row blocks over
// a run of groups, in the best dot product of the target. Adds to float accumulators in memory, in
// ascending segment order. Each target gives
//
//   CopyGranule(hi, lo, out)         32 inputs of a row, from planes to the form its loop reads
//   MultiplyTile<kBits, R, B>(input) R up to kTileRows; B = 2 only for R up to kPairRows
//   kCodeBias<kBits>                 what it subtracts from codes, so as to fit the instructions
//
// and the same of 8-bit activations:
//
//   CopyByteGranule<kBits>(bytes, out), kByteGranuleBytes<kBits> of them, at most kGranuleBytes
//   MultiplyByteTile<kBits, R, B>(input)
//
// All forms do the same arithmetic (kernels/linear/linear.h): exact integer sums of a segment, one
// float multiply-add for it; of 8-bit activations one for each 32 inputs and one for the segment.
// Codes of both widths meet the activations in the same order, so the widths differ in how codes
// are loaded alone. Included by integer_product_cpu-inl.h alone, once for each target, into the
// namespace SHEAF_TILE; hence no guard.

#include "kernels/linear/integer_tile_input-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
#include "kernels/linear/integer_tile_vnni-inl.h"
#elif HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
#include "kernels/linear/integer_tile_madd-inl.h"
#elif HWY_ARCH_ARM
#include "kernels/linear/integer_tile_neon-inl.h"
#else
#error "kernels/linear/integer_tile-inl.h has no integer product for this architecture"
#endif

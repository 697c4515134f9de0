// The product of a piece of an output with 4-bit or 8-bit weights on one target.
//
// A target has the tile of its own instructions, in namespace `plain`, and may have a second one,
// in `dot`, for processors with byte dot products that the target does not name
// (kernels/simd/dot_products.h): chosen here, at run time.
//
// A per-target header of Highway, for kernels/linear/w4a16_cpu.cc and w8a16_cpu.cc alone.

#if defined(SHEAF_KERNELS_INTEGER_PRODUCT_CPU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SHEAF_KERNELS_INTEGER_PRODUCT_CPU_INL_H_
#undef SHEAF_KERNELS_INTEGER_PRODUCT_CPU_INL_H_
#else
#define SHEAF_KERNELS_INTEGER_PRODUCT_CPU_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "hwy/cache_control.h"
#include "kernels/linear/integer_piece.h"
#include "kernels/linear/packed_integers.h"
#include "kernels/simd/dot_products.h"

#define SHEAF_TILE plain
#include "kernels/linear/integer_tile-inl.h"
#include "kernels/linear/integer_product_tiles-inl.h"
#undef SHEAF_TILE

#if HWY_ARCH_ARM
#define SHEAF_TILE dot
#include "kernels/linear/integer_tile_neon_dot-inl.h"
#include "kernels/linear/integer_product_tiles-inl.h"
#undef SHEAF_TILE
#endif

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

template <int kBits>
void MultiplyPiece(const PackedIntegers<kBits>& w, const IntegerPiece& piece) {
#if HWY_ARCH_ARM
  if (internal::UseDotProducts()) return dot::MultiplyPiece(w, piece);
#endif
  plain::MultiplyPiece(w, piece);
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SHEAF_KERNELS_INTEGER_PRODUCT_CPU_INL_H_

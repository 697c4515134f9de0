#include "kernels/linear/w4a16.h"

#include "kernels/simd/highway_targets.h"
#include "kernels/simd/reference_switch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/w4a16_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/linear/integer_product_cpu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

void MultiplyW4Simd(const PackedW4& w, const IntegerPiece& piece) { MultiplyPiece(w, piece); }

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(MultiplyW4Simd);

void MultiplyW4(const PackedW4& w, const IntegerPiece& piece) {
  if (internal::UseReference()) return ref::MultiplyW4(w, piece);
  HWY_DYNAMIC_DISPATCH(MultiplyW4Simd)(w, piece);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

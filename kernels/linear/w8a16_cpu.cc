#include "kernels/linear/w8a16.h"

#include "kernels/simd/highway_targets.h"
#include "kernels/simd/reference_switch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/w8a16_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/linear/integer_product_cpu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

void MultiplyW8Simd(const PackedW8& w, const IntegerPiece& piece) { MultiplyPiece(w, piece); }

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(MultiplyW8Simd);

void MultiplyW8(const PackedW8& w, const IntegerPiece& piece) {
  if (internal::UseReference()) return ref::MultiplyW8(w, piece);
  HWY_DYNAMIC_DISPATCH(MultiplyW8Simd)(w, piece);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE

#pragma once
// Byte dot products that some processors of a Highway target have and the target does not name:
// `sdot` on NEON (FEAT_DotProd: Armv8.2 optional, 8.4 always). The products with integer weights
// have tiles for them (kernels/linear/integer_product_cpu-inl.h).
//
// Threads    the switch is set where kernels/simd/cpu_target.cc chooses a target, at the latest by
//            the first UseReference() (reference_switch.h), so ask that first. A thread that sees
//            it late runs the other tile, which gives the same bits.
// Cost       of UseDotProducts: one relaxed load.

#include <atomic>

namespace sheaf::kernels {

// What the kernel says of this processor (HWCAP).
bool MachineHasDotProducts();

namespace internal {

extern constinit std::atomic<bool> use_dot_products;

inline bool UseDotProducts() { return use_dot_products.load(std::memory_order_relaxed); }

}  // namespace internal
}  // namespace sheaf::kernels

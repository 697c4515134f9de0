#pragma once
// The positions of the `count` largest scores, in ascending order of position.
//
// Order      among equal scores the lowest position is chosen; -0 equals 0; NaN is below every
//            number (and below -infinity). The choice is the same on every machine.
// Shapes     scores [n], positions [count], 0 <= count <= n.
// Threads    pure, one thread.
// Cost       exact radix select: four passes over the scores whatever their values, no allocation.

#include <cstdint>

namespace sheaf::kernels {

void TopPositions(const float* scores, int n, int count, int32_t* positions);

}  // namespace sheaf::kernels

#pragma once
// 8-bit weights (kernels/linear/packed_integers.h). One (row block, step) is 128 bytes: 16
// little-endian 32-bit words of the step's inputs 0 2 4 6, word r holding row r's four codes, then
// 16 of its inputs 1 3 5 7. This is the order in which a plane of activations has them
// (kernels/linear/quantized_rows.h), so that a word meets four neighbouring bytes of it.

#include <cstdint>

#include "kernels/linear/packed_integers.h"

namespace sheaf::kernels {

using PackedW8 = PackedIntegers<8>;

// Where the code of input `i` of a step is within its 128 bytes, for row `lane` of the block.
constexpr int W8CodePlace(int lane, int i) { return i % 2 * 64 + lane * 4 + i / 2; }

}  // namespace sheaf::kernels

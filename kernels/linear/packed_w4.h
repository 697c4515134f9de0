#pragma once
// 4-bit weights (kernels/linear/packed_integers.h). One (row block, step) is 64 bytes: 16
// little-endian 32-bit words, word r holding row r's 8 nibbles, input j at bits 4j (the word of a
// GPTQ file).

#include "kernels/linear/packed_integers.h"

namespace sheaf::kernels {

using PackedW4 = PackedIntegers<4>;

}  // namespace sheaf::kernels

#pragma once
// A row of floats as 8-bit codes: groups of 128 inputs with a scale each, symmetric, which is what
// kernels/linear/packed_w8.h multiplies.
//
//   scale = max |w| / 127 of the group
//   code  = 128 + w / scale, rounded to the nearest integer, halves to the even one
//
// Shapes     row [k]; codes [k], 1..255; scales [Int8Groups(k)], >= 0. The last group may be
//            shorter.
// Numbers    |w - scale * (code - 128)| <= scale * (1/2 + 2^-16). A group whose scale would be no
//            normal float (max |w| < 1.5e-36) is all zeros: scale 0, codes 128. Every operation is
//            a single float32 one, so a row has the same bytes on every machine, whatever rows
//            are beside it.
// Errors     none: the row is finite.
// Threads    pure. Cost: two passes over the row, which is in cache.

#include <cstdint>

namespace sheaf {

inline constexpr int kInt8Group = 128;  // inputs

constexpr int Int8Groups(int k) { return (k + kInt8Group - 1) / kInt8Group; }

void QuantizeRowToInt8(const float* row, int k, uint8_t* codes, float* scales);

}  // namespace sheaf

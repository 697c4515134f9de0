#pragma once
// The product of a piece of an output with a Linear of integer weights, of either width.

#include "kernels/linear/linear.h"
#include "kernels/linear/w4a16.h"
#include "kernels/linear/w8a16.h"

namespace sheaf::kernels {

// `linear` is_integer(); the piece's bias is the Linear's.
inline void MultiplyIntegers(const Linear& linear, IntegerPiece piece) {
  piece.bias = linear.bias;
  if (linear.storage == Linear::Storage::kW4) return MultiplyW4(linear.w4, piece);
  MultiplyW8(linear.w8, piece);
}

}  // namespace sheaf::kernels

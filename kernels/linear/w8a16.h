#pragma once
// The 8-bit product of one piece of an output (kernels/linear/integer_piece.h).

#include "kernels/linear/integer_piece.h"
#include "kernels/linear/packed_w8.h"

namespace sheaf::kernels {

void MultiplyW8(const PackedW8& w, const IntegerPiece& piece);

namespace ref {
void MultiplyW8(const PackedW8& w, const IntegerPiece& piece);
}  // namespace ref

}  // namespace sheaf::kernels

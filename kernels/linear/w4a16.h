#pragma once
// The 4-bit product of one piece of an output (kernels/linear/integer_piece.h).

#include "kernels/linear/integer_piece.h"
#include "kernels/linear/packed_w4.h"

namespace sheaf::kernels {

void MultiplyW4(const PackedW4& w, const IntegerPiece& piece);

namespace ref {
void MultiplyW4(const PackedW4& w, const IntegerPiece& piece);
}  // namespace ref

}  // namespace sheaf::kernels

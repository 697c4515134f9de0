#include "kernels/linear/integer_product_ref.h"
#include "kernels/linear/w4a16.h"

namespace sheaf::kernels::ref {

void MultiplyW4(const PackedW4& w, const IntegerPiece& piece) {
  MultiplyIntegers(w, piece, [&](int output, int i) {
    const size_t step = static_cast<size_t>(output / kRowBlock) * w.steps() + i / 8;
    // Byte b of a word holds input 2b in its low and 2b + 1 in its high nibble.
    const uint8_t byte = w.codes[step * 64 + output % kRowBlock * 4 + i % 8 / 2];
    return i % 2 == 0 ? byte & 15 : byte >> 4;
  });
}

}  // namespace sheaf::kernels::ref

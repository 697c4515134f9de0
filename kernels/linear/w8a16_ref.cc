#include "kernels/linear/integer_product_ref.h"
#include "kernels/linear/w8a16.h"

namespace sheaf::kernels::ref {

void MultiplyW8(const PackedW8& w, const IntegerPiece& piece) {
  MultiplyIntegers(w, piece, [&](int output, int i) {
    const size_t step = static_cast<size_t>(output / kRowBlock) * w.steps() + i / 8;
    return int{w.codes[step * 128 + W8CodePlace(output % kRowBlock, i % 8)]};
  });
}

}  // namespace sheaf::kernels::ref

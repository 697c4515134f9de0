#include <cmath>
#include <cstring>

#include "kernels/linear/dense_matrix.h"
#include "kernels/simd/half_float.h"

namespace sheaf::kernels::ref {
namespace {

// By the definition of the format: sign, 4 bits of exponent, 3 of fraction, bias 7.
float E4M3ToFloat(uint8_t code) {
  const int exponent = (code >> 3) & 15;
  const int fraction = code & 7;
  const float magnitude =
      exponent == 0 ? std::ldexp(static_cast<float>(fraction), 1 - 7 - 3)
                    : std::ldexp(static_cast<float>(8 + fraction), exponent - 7 - 3);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

}  // namespace

void WidenToFloat(const void* in, FloatFormat format, size_t count, float* out) {
  const auto* const bytes = static_cast<const uint8_t*>(in);
  if (format == FloatFormat::kF32) {
    std::memcpy(out, in, count * sizeof(float));
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    if (format == FloatFormat::kE4M3) {
      out[i] = E4M3ToFloat(bytes[i]);
      continue;
    }
    uint16_t bits;
    std::memcpy(&bits, bytes + 2 * i, sizeof(bits));
    out[i] = format == FloatFormat::kBF16 ? Bf16ToFloat(bits) : F16ToFloat(bits);
  }
}

void WidenRow(const DenseMatrix& w, int row, int first, int count, float* out) {
  ref::WidenToFloat(w.row(row) + static_cast<size_t>(first) * FloatBytes(w.format), w.format,
                    static_cast<size_t>(count), out);
  if (w.format != FloatFormat::kE4M3) return;
  const float* const scales = w.scales.row(row);
  for (int i = 0; i < count; ++i) out[i] *= scales[w.scales.column(first + i)];
}

}  // namespace sheaf::kernels::ref

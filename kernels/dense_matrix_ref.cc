#include <cstring>

#include "kernels/dense_matrix.h"
#include "kernels/half_float.h"

namespace sheaf::kernels::ref {

void WidenToFloat(const void* in, FloatFormat format, size_t count, float* out) {
  if (format == FloatFormat::kF32) {
    std::memcpy(out, in, count * sizeof(float));
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, static_cast<const uint8_t*>(in) + 2 * i, sizeof(bits));
    out[i] = format == FloatFormat::kBF16 ? Bf16ToFloat(bits) : F16ToFloat(bits);
  }
}

}  // namespace sheaf::kernels::ref

#include <cmath>

#include "kernels/simd/lanes_ref.h"
#include "kernels/vector/rms_norm.h"

namespace sheaf::kernels::ref {

void RmsNorm(const float* x, ptrdiff_t x_stride, const float* weight, int num_rows, int n,
             float eps, float* out, ptrdiff_t out_stride) {
  for (int row = 0; row < num_rows; ++row) {
    const float* in = x + row * x_stride;
    float* result = out + row * out_stride;
    const float mean = Dot(in, in, n) / static_cast<float>(n);
    const float inverse = 1.0f / std::sqrt(mean + eps);
    for (int i = 0; i < n; ++i) result[i] = (in[i] * inverse) * weight[i];
  }
}

void AddInto(const float* x, size_t count, float* y) {
  for (size_t i = 0; i < count; ++i) y[i] += x[i];
}

}  // namespace sheaf::kernels::ref

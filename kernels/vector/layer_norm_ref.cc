#include <cmath>
#include <cstddef>

#include "kernels/simd/lanes_ref.h"
#include "kernels/vector/layer_norm.h"

namespace sheaf::kernels::ref {

void LayerNorm(const float* x, const float* weight, const float* bias, int n, float eps,
               float* out) {
  Lanes16 sum;
  for (int i = 0; i < n; ++i) sum.Add(i, x[i]);
  const float mean = sum.Sum() / static_cast<float>(n);
  Lanes16 squares;
  for (int i = 0; i < n; ++i) squares.Fma(i, x[i] - mean, x[i] - mean);
  const float inverse = 1.0f / std::sqrt(squares.Sum() / static_cast<float>(n) + eps);
  for (int i = 0; i < n; ++i) out[i] = std::fma((x[i] - mean) * inverse, weight[i], bias[i]);
}

}  // namespace sheaf::kernels::ref

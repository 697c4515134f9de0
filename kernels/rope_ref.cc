#include <cmath>

#include "kernels/rope.h"

namespace sheaf::kernels::ref {

void ApplyRope(float* x, int num_heads, int head_dim, const RopeTable& table, int position) {
  const int half = table.rotary_dim() / 2;
  const float* cos = table.cos(position);
  const float* sin = table.sin(position);
  for (int head = 0; head < num_heads; ++head) {
    float* low = x + static_cast<ptrdiff_t>(head) * head_dim;
    float* high = low + half;
    for (int j = 0; j < half; ++j) {
      const float a = low[j];
      const float b = high[j];
      low[j] = std::fma(-b, sin[j], a * cos[j]);
      high[j] = std::fma(a, sin[j], b * cos[j]);
    }
  }
}

}  // namespace sheaf::kernels::ref

#include <cmath>

#include "kernels/attention/rope.h"

namespace sheaf::kernels::ref {

void ApplyRope(float* x, int num_heads, int head_dim, const RopeTable& table, int position,
               RopePairs pairs) {
  const int half = table.rotary_dim() / 2;
  const bool interleaved = pairs == RopePairs::kInterleaved;
  const float* cos = table.cos(position);
  const float* sin = table.sin(position);
  for (int head = 0; head < num_heads; ++head) {
    float* in = x + static_cast<ptrdiff_t>(head) * head_dim;
    for (int j = 0; j < half; ++j) {
      float& first = interleaved ? in[2 * j] : in[j];
      float& second = interleaved ? in[2 * j + 1] : in[j + half];
      const float a = first;
      const float b = second;
      first = std::fma(-b, sin[j], a * cos[j]);
      second = std::fma(a, sin[j], b * cos[j]);
    }
  }
}

}  // namespace sheaf::kernels::ref

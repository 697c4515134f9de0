#include "kernels/vector/softmax.h"

#include <limits>

#include "kernels/simd/lanes_ref.h"
#include "kernels/vector/log.h"

namespace sheaf::kernels::ref {
namespace {

float MaxOf(const float* x, size_t count) {
  float lanes[16];
  for (float& lane : lanes) lane = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < count; ++i) lanes[i % 16] = x[i] > lanes[i % 16] ? x[i] : lanes[i % 16];
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) {
      lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
    }
  }
  return lanes[0];
}

}  // namespace

float LogSumExp(const float* x, size_t count) {
  const float max = MaxOf(x, count);
  if (max == -std::numeric_limits<float>::infinity()) return max;
  Lanes16 sum;
  for (size_t i = 0; i < count; ++i) sum.Add(i, Exp(x[i] - max));
  const float total = sum.Sum();
  if (total != total) return total;
  return static_cast<float>(max + Log(total));
}

void Softmax(const float* x, size_t count, float* out) {
  const float max = MaxOf(x, count);
  Lanes16 sum;
  for (size_t i = 0; i < count; ++i) {
    out[i] = Exp(x[i] - max);
    sum.Add(i, out[i]);
  }
  const float total = sum.Sum();
  for (size_t i = 0; i < count; ++i) out[i] /= total;
}

int64_t ArgMax(const float* x, size_t count) {
  const float max = MaxOf(x, count);
  for (size_t i = 0; i < count; ++i) {
    if (x[i] == max) return static_cast<int64_t>(i);
  }
  return -1;
}

}  // namespace sheaf::kernels::ref

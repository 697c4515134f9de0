#include "kernels/simd/lanes_ref.h"
#include "kernels/vector/exp.h"

namespace sheaf::kernels::ref {

void Exp(const float* x, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = Exp(x[i]);
}

}  // namespace sheaf::kernels::ref

#include "kernels/simd/lanes_ref.h"
#include "kernels/vector/silu_mul.h"

namespace sheaf::kernels::ref {

void SiluMul(const float* gate, const float* up, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = Silu(gate[i]) * up[i];
}

}  // namespace sheaf::kernels::ref

#include "kernels/reference_switch.h"
#include "kernels/scaled_fp8.h"

namespace sheaf::kernels {

void StoreScaledFp8(const float* x, size_t count, Fp8Scale kind, void* out) {
  ref::StoreScaledFp8(x, count, kind, out);
}

void LoadScaledFp8(const void* in, size_t count, float* out) { ref::LoadScaledFp8(in, count, out); }

}  // namespace sheaf::kernels

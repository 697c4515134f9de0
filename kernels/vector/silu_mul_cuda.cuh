#pragma once
// kernels/vector/silu_mul.h on a device, one value: the bits of ref::SiluMul. A pure function.

#include "kernels/vector/exp_cuda.cuh"

namespace sheaf::kernels::cuda {

SHEAF_DEVICE float SiluMul(float gate, float up) {
  return Multiply(Divide(gate, Add(1.0f, Exp(-gate))), up);
}

}  // namespace sheaf::kernels::cuda

#pragma once
// out[i] = silu(gate[i]) * up[i], silu(x) = x / (1 + exp(-x)), with our own exp
// (kernels/vector/exp-inl.h), the same bits on every target. In place (out == gate or out == up)
// allowed. Pure.

#include <cstddef>

namespace sheaf::kernels {

void SiluMul(const float* gate, const float* up, size_t count, float* out);

namespace ref {
void SiluMul(const float* gate, const float* up, size_t count, float* out);
}  // namespace ref

}  // namespace sheaf::kernels

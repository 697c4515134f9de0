#pragma once
// out[i] = exp(x[i]) by our own polynomial, the same bits on every target: relative error <= 1e-7,
// 0 where the result would be subnormal, infinity above FLT_MAX, NaN for NaN. In place allowed.
// Pure.

#include <cstddef>

namespace sheaf::kernels {

void Exp(const float* x, size_t count, float* out);

namespace ref {
void Exp(const float* x, size_t count, float* out);
}  // namespace ref

}  // namespace sheaf::kernels

#pragma once
// RMSNorm: out[i] = x[i] * (1 / sqrt(mean(x^2) + eps)) * weight[i], all float32.
//
// Shapes     x, out [num_rows][n] with row strides in floats; weight [n]. In place allowed.
// Numbers    16-lane fma sum of squares, divided by n, correctly rounded sqrt and division.
// Threads    pure; callers split rows.

#include <cstddef>

namespace sheaf::kernels {

void RmsNorm(const float* x, ptrdiff_t x_stride, const float* weight, int num_rows, int n,
             float eps, float* out, ptrdiff_t out_stride);

// y[i] += x[i], the residual.
void AddInto(const float* x, size_t count, float* y);

namespace ref {
void RmsNorm(const float* x, ptrdiff_t x_stride, const float* weight, int num_rows, int n,
             float eps, float* out, ptrdiff_t out_stride);
void AddInto(const float* x, size_t count, float* y);
}  // namespace ref

}  // namespace sheaf::kernels

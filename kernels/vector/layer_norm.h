#pragma once
// LayerNorm: out[i] = (x[i] - mean(x)) * (1 / sqrt(variance(x) + eps)) * weight[i] + bias[i], all
// float32. models: GLM-5.1, the keys of its indexer.
//
// Shapes     x, weight, bias, out [n], n >= 1. In place allowed.
// Numbers    mean = 16-lane sum / n;  c[i] = x[i] - mean;  variance = 16-lane fma sum of c[i]^2 /
//            n; out[i] = fma(c[i] * (1 / sqrt(variance + eps)), weight[i], bias[i]), with correctly
//            rounded sqrt and divisions. The centred values are computed, so that a mean much
//            larger than the deviations costs no digits of the variance.
// Threads    pure; callers split rows.

namespace sheaf::kernels {

void LayerNorm(const float* x, const float* weight, const float* bias, int n, float eps,
               float* out);

namespace ref {
void LayerNorm(const float* x, const float* weight, const float* bias, int n, float eps,
               float* out);
}  // namespace ref

}  // namespace sheaf::kernels

#pragma once
// Softmax and log-probabilities over a row of logits (the vocabulary), float32 with a fixed order
// of summation.
//
// Numbers    16-lane sums; exp from kernels/vector/exp-inl.h; log of the sum in double
//            (kernels/vector/log.h). NaN anywhere makes LogSumExp and Softmax NaN; MaxOf, ArgMax
//            and TopIndexes skip NaNs.
// Threads    pure.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sheaf::kernels {

float MaxOf(const float* x, size_t count);

// log(sum(exp(x))), so that log_probability(i) = x[i] - LogSumExp(x).
float LogSumExp(const float* x, size_t count);

// out[i] = exp(x[i] - max) / sum. In place allowed.
void Softmax(const float* x, size_t count, float* out);

// The lowest index among the largest values (argmax); NaNs are skipped; -1 when all are NaN.
int64_t ArgMax(const float* x, size_t count);

// Indexes of the n largest values, largest first, lower index first on ties.
std::vector<int32_t> TopIndexes(const float* x, size_t count, int n);

namespace ref {
float LogSumExp(const float* x, size_t count);
void Softmax(const float* x, size_t count, float* out);
int64_t ArgMax(const float* x, size_t count);
}  // namespace ref

}  // namespace sheaf::kernels

#pragma once
// y = x W^T + bias for a Linear of any storage: 4-bit or 8-bit groups (W4A16, W8A16) or bf16 / f16
// / f32 / e4m3.
//
// A Linear is quantized or not tensor by tensor, so callers keep both forms of their activations at
// hand: integer weights read groups of integers, float weights the floats (one missing form is made
// here, once a call).
//
// Shapes     x [num_rows][k]; y [num_rows][n] with row stride y_stride floats; bias [n] float or
//            none.
// Numbers    Integers: exact sums a segment, then acc = fma(float(sum), weight_scale * x_scale,
//            acc) in ascending segment order, then + bias. With 8-bit activations: exact sums of 32
//            inputs, s = fma(float(sum), x_scale, s) in ascending order within a segment, then acc
//            = fma(s, weight_scale, acc). Float: 16-lane fma reduction
//            (kernels/lanes). Each output depends on its row and the weights alone: not on
//            num_rows, threads or target.
// Threads    splits output rows over the pool; one call at a time per pool.
// Cost       one read of the weights per 12 rows or fewer; bound by memory for few rows.

#include <cstddef>
#include <span>

#include "base/thread_pool.h"
#include "kernels/linear/dense_matrix.h"
#include "kernels/linear/packed_w4.h"
#include "kernels/linear/packed_w8.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf::kernels {

struct Linear {
  enum class Storage : uint8_t { kNone, kW4, kW8, kDense };
  Storage storage = Storage::kNone;
  PackedW4 w4;
  PackedW8 w8;
  DenseMatrix dense;
  const float* bias = nullptr;  // [n] or null

  bool is_integer() const { return storage == Storage::kW4 || storage == Storage::kW8; }
  int n() const {
    return storage == Storage::kW4 ? w4.n : storage == Storage::kW8 ? w8.n : dense.n;
  }
  int k() const {
    return storage == Storage::kW4 ? w4.k : storage == Storage::kW8 ? w8.k : dense.k;
  }
  const int32_t* permutation() const {  // of integer weights; null: none
    return storage == Storage::kW4   ? w4.permutation
           : storage == Storage::kW8 ? w8.permutation
                                     : nullptr;
  }
};

// Both forms of the same rows; `floats` may be null when only the quantized form exists (expert
// workers) and `quantized.planes` null when only floats exist: they are quantized to
// `quantized.bits` then.
struct Activations {
  int num_rows = 0;
  int k = 0;
  const float* floats = nullptr;  // [num_rows][k]
  QuantizedRows quantized;
};

struct LinearCall {
  const Linear* linear = nullptr;
  const Activations* x = nullptr;
  float* y = nullptr;
  ptrdiff_t y_stride = 0;  // floats
};

// Runs several independent products as one parallel loop (q, k and v; gate and up).
void RunLinears(ThreadPool& pool, std::span<const LinearCall> calls);

// Quantizes rows [num_rows][k] to out.bits() over the pool.
void QuantizeRows(ThreadPool& pool, const float* x, int num_rows, int k, QuantizedRowsBuffer& out);

namespace ref {
// Scalar, plain loops over the same arithmetic; the test oracle for every target.
void RunLinear(const Linear& linear, const Activations& x, float* y, ptrdiff_t y_stride);
}  // namespace ref

}  // namespace sheaf::kernels

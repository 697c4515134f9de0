#pragma once
// The product with an unquantized matrix of one piece of an output: rows x output columns.
// kernels/linear/linear.cc cuts its work into such pieces and gives one to a thread at a time.
//
// Shapes     y[i - row_begin][c - column_begin] for row i of x in [row_begin, row_end) and row c
//            of w in [column_begin, column_end).
// Numbers    kernels/linear/linear.h: 16 fma lanes over k, then the fixed tree; elements past k
//            count as zeros.
// Ownership  views only. Threads: pure.
//            8-bit weights as if the matrix were widened to float first
//            (kernels/linear/dense_matrix.h), bit for bit.
// Cost       streams the piece's weights from memory once up to 12 rows (8 on AVX2 and NEON);
//            beyond that it widens them to float once per 48 rows. Inputs whose rows start at
//            multiples of 64 bytes are a tenth faster. 8-bit weights whose scales change inside
//            steps of 16 inputs, but not with every input, are widened whatever the rows.

#include <cstddef>
#include <cstdint>

#include "kernels/linear/dense_matrix.h"

namespace sheaf::kernels {

struct DensePiece {
  const DenseMatrix* w = nullptr;
  const float* bias = nullptr;  // [w.n] or null
  const float* x = nullptr;     // [..][w.k]
  int row_begin = 0;
  int row_end = 0;
  int column_begin = 0;
  int column_end = 0;
  float* y = nullptr;      // of the piece's first element
  ptrdiff_t y_stride = 0;  // floats
};

void MultiplyDense(const DensePiece& piece);

namespace ref {
void MultiplyDense(const DensePiece& piece);
}  // namespace ref

}  // namespace sheaf::kernels

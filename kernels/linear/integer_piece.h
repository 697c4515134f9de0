#pragma once
// One piece of the output of a product with integer weights: rows x row blocks.
// kernels/linear/linear.cc and kernels/experts/expert_ffn.cc cut their work into such pieces and
// give one to a thread at a time.
//
// Shapes     y[i - row_begin][16 b + r - 16 block_begin] for list entry i in [row_begin, row_end)
//            and block b in [block_begin, block_end); columns past the matrix's n are not written.
// Numbers    kernels/linear/linear.h.
// Ownership  views only. Threads: pure.
// Cost       reads the piece's weights from memory once per 48 rows, from the cache once per
//            kMaxTileRows rows (6 on AVX2, 8 on NEON with dot products, 4 without). Does not read
//            past x nor the weights, but asks the cache for up to 4 KiB more.
// The permutation is the caller's: x is already in packed order.

#include <cstddef>
#include <cstdint>

#include "kernels/linear/quantized_rows.h"

namespace sheaf::kernels {

inline constexpr int kMaxTileRows = 12;
// Row blocks of a piece that share a conversion of its activations.
inline constexpr int kSumBlocks = 16;

struct IntegerPiece {
  const float* bias = nullptr;  // [n] or null
  QuantizedRows x;
  const int32_t* rows = nullptr;  // list of rows of x; null: 0, 1, 2, ...
  int row_begin = 0;
  int row_end = 0;
  int block_begin = 0;
  int block_end = 0;
  float* y = nullptr;      // of the piece's first element
  ptrdiff_t y_stride = 0;  // floats

  int row(int i) const { return rows == nullptr ? i : rows[i]; }
};

}  // namespace sheaf::kernels

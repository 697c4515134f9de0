#pragma once
// A matrix of floats [n][k], row-major, as it lies in a safetensors file (aligned to its elements
// only), and conversions of its elements to float.
//
// Numbers    an element is exact in float; one of 8 bits (e4m3fn: bias 7, no Inf) is
//            float(code) * scale of its block, rounded once to float. Its NaN codes 0x7F and 0xFF
//            never come here: model/formats/fp8.cc refuses them (they would read as 480). 448 *
//            |scale| is finite.
// Ownership  a view. Threads  pure functions.

#include <cstddef>
#include <cstdint>

namespace sheaf::kernels {

enum class FloatFormat : uint8_t { kF32, kBF16, kF16, kE4M3 };

constexpr size_t FloatBytes(FloatFormat format) {
  return format == FloatFormat::kF32 ? 4 : format == FloatFormat::kE4M3 ? 1 : 2;
}

// One scale for each block of block_rows x block_columns elements. The matrix may begin inside a
// block, as a part of a larger one does.
struct BlockScales {
  const float* values = nullptr;  // [blocks down][stride]
  int block_rows = 1;
  int block_columns = 1;
  int stride = 0;        // blocks across
  int first_row = 0;     // of the matrix, in its first block; below block_rows
  int first_column = 0;  // the same across

  const float* row(int r) const {
    return values + static_cast<size_t>((r + first_row) / block_rows) * stride;
  }
  int column(int c) const { return (c + first_column) / block_columns; }
};

struct DenseMatrix {
  int n = 0;
  int k = 0;
  FloatFormat format = FloatFormat::kF32;
  const void* data = nullptr;
  BlockScales scales = {};  // kE4M3 alone

  const uint8_t* row(int64_t r) const {
    return static_cast<const uint8_t*>(data) + static_cast<size_t>(r) * k * FloatBytes(format);
  }
};

// out[i] = float(in[i]), exact (kE4M3: the codes, without scales). In and out must not overlap.
void WidenToFloat(const void* in, FloatFormat format, size_t count, float* out);

// out[i] = element [row][first + i], scales included.
void WidenRow(const DenseMatrix& w, int row, int first, int count, float* out);

namespace ref {
void WidenToFloat(const void* in, FloatFormat format, size_t count, float* out);
void WidenRow(const DenseMatrix& w, int row, int first, int count, float* out);
}  // namespace ref

}  // namespace sheaf::kernels

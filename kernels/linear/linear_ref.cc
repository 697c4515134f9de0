#include <vector>

#include "kernels/linear/dense_product.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/w4a16.h"
#include "kernels/linear/w8a16.h"

namespace sheaf::kernels::ref {
namespace {

void QuantizeAll(const float* x, int num_rows, int k, QuantizedRowsBuffer& out) {
  out.Resize(num_rows, k);
  const auto quantize = out.bits() == ActivationBits::k8 ? ref::QuantizeByteRow : ref::QuantizeRow;
  for (int row = 0; row < num_rows; ++row) {
    quantize(x + static_cast<size_t>(row) * k, k, out.row_planes(row), out.row_scales(row),
             out.row_sums(row));
  }
}

std::vector<float> DequantizeAll(const QuantizedRows& x) {
  std::vector<float> floats(static_cast<size_t>(x.num_rows) * x.k);
  const auto dequantize =
      x.bits == ActivationBits::k8 ? ref::DequantizeByteRow : ref::DequantizeRow;
  for (int row = 0; row < x.num_rows; ++row) {
    dequantize(x.row_planes(row), x.row_scales(row), x.k,
               floats.data() + static_cast<size_t>(row) * x.k);
  }
  return floats;
}

}  // namespace

void RunLinear(const Linear& linear, const Activations& x, float* y, ptrdiff_t y_stride) {
  if (linear.storage == Linear::Storage::kDense) {
    std::vector<float> floats;
    if (x.floats == nullptr) floats = DequantizeAll(x.quantized);
    ref::MultiplyDense({.w = &linear.dense,
                        .bias = linear.bias,
                        .x = x.floats != nullptr ? x.floats : floats.data(),
                        .row_begin = 0,
                        .row_end = x.num_rows,
                        .column_begin = 0,
                        .column_end = linear.dense.n,
                        .y = y,
                        .y_stride = y_stride});
    return;
  }
  QuantizedRows rows = x.quantized;
  QuantizedRowsBuffer quantized(rows.bits);
  if (rows.planes == nullptr) {
    QuantizeAll(x.floats, x.num_rows, x.k, quantized);
    rows = quantized.view();
  }
  QuantizedRowsBuffer permuted(rows.bits);
  const int32_t* const permutation = linear.permutation();
  if (permutation != nullptr) {
    const std::vector<float> floats = DequantizeAll(rows);
    std::vector<float> ordered(floats.size());
    for (size_t i = 0; i < floats.size(); ++i) {
      const size_t row = i / x.k;
      ordered[i] = floats[row * x.k + permutation[i - row * x.k]];
    }
    QuantizeAll(ordered.data(), x.num_rows, x.k, permuted);
    rows = permuted.view();
  }
  const IntegerPiece piece = {.bias = linear.bias,
                              .x = rows,
                              .row_begin = 0,
                              .row_end = x.num_rows,
                              .block_begin = 0,
                              .block_end = NumRowBlocks(linear.n()),
                              .y = y,
                              .y_stride = y_stride};
  if (linear.storage == Linear::Storage::kW4) {
    ref::MultiplyW4(linear.w4, piece);
  } else {
    ref::MultiplyW8(linear.w8, piece);
  }
}

}  // namespace sheaf::kernels::ref

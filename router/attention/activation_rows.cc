#include "router/attention/activation_rows.h"

namespace sheaf {

kernels::Activations RowsOf(const float* floats, const kernels::QuantizedRowsBuffer& buffer, int k,
                            int first, int count) {
  kernels::QuantizedRows quantized = buffer.view();
  quantized.planes = quantized.row_planes(first);
  quantized.scales = quantized.row_scales(first);
  quantized.sums = quantized.row_sums(first);
  quantized.num_rows = count;
  return {count, k, floats + size_t(first) * k, quantized};
}

void QuantizeInto(const float* x, int k, int row, kernels::QuantizedRowsBuffer& buffer) {
  const auto at = static_cast<size_t>(row);
  kernels::QuantizeRow(buffer.bits(), x, k, buffer.row_planes(at), buffer.row_scales(at),
                       buffer.row_sums(at));
}

}  // namespace sheaf

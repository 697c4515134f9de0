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
  const size_t groups = kernels::NumGroups(k);
  kernels::QuantizeRow(x, k, buffer.planes() + size_t{2} * kernels::kActivationGroup * groups * row,
                       buffer.scales() + groups * row,
                       buffer.sums() + groups * kernels::kSumsPerGroup * row);
}

}  // namespace sheaf

#include "kernels/linear/quantized_rows.h"

namespace sheaf::kernels {

void QuantizedRowsBuffer::Resize(int num_rows, int k) {
  num_rows_ = num_rows;
  k_ = k;
  const size_t num_groups = static_cast<size_t>(num_rows) * NumGroups(k);
  planes_.resize(num_groups * 2 * kActivationGroup);
  scales_.resize(num_groups);
  sums_.resize(num_groups * kSumsPerGroup);
}

QuantizedRows QuantizedRowsBuffer::view() const {
  return {.num_rows = num_rows_,
          .k = k_,
          .planes = planes_.data(),
          .scales = scales_.data(),
          .sums = sums_.data()};
}

}  // namespace sheaf::kernels

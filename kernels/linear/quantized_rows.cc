#include "kernels/linear/quantized_rows.h"

namespace sheaf::kernels {

void QuantizedRowsBuffer::Resize(int num_rows, int k, ActivationBits bits) {
  bits_ = bits;
  num_rows_ = num_rows;
  k_ = k;
  const size_t num_groups = static_cast<size_t>(num_rows) * NumGroups(k);
  planes_.resize(num_groups * GroupBytes(bits));
  scales_.resize(num_groups * ScalesPerGroup(bits));
  sums_.resize(num_groups * kSumsPerGroup);
}

QuantizedRows QuantizedRowsBuffer::view() const {
  return {.num_rows = num_rows_,
          .k = k_,
          .bits = bits_,
          .planes = planes_.data(),
          .scales = scales_.data(),
          .sums = sums_.data()};
}

void QuantizeRow(ActivationBits bits, const float* x, int k, int8_t* planes, float* scales,
                 int32_t* sums) {
  if (bits == ActivationBits::k8) return QuantizeByteRow(x, k, planes, scales, sums);
  QuantizeRow(x, k, planes, scales, sums);
}

void SumRow(ActivationBits bits, const int8_t* planes, int k, int32_t* sums) {
  if (bits == ActivationBits::k8) return SumByteRow(planes, k, sums);
  SumRow(planes, k, sums);
}

void DequantizeRow(ActivationBits bits, const int8_t* planes, const float* scales, int k,
                   float* x) {
  if (bits == ActivationBits::k8) return DequantizeByteRow(planes, scales, k, x);
  DequantizeRow(planes, scales, k, x);
}

}  // namespace sheaf::kernels

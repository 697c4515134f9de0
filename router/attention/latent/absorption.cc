#include "router/attention/latent/absorption.h"

#include <algorithm>
#include <cstring>

#include "router/attention/activation_rows.h"

namespace sheaf {

using kernels::Activations;
using kernels::Linear;

namespace {

bool IsPacked(const Linear& linear) { return linear.is_integer(); }

}  // namespace

Absorption::Absorption(const Shape& shape, int max_rows, ThreadPool& pool,
                       kernels::ActivationBits bits)
    : shape_(shape),
      pool_(pool),
      inputs_(size_t(max_rows) * shape.num_heads *
              std::max(shape.max_parts * shape.nope_dim, shape.rank)),
      keys_quantized_(bits),
      values_quantized_(bits) {}

Activations Absorption::InputOf(size_t block, int rows, int k) const {
  const int first = static_cast<int>(InputRow(block, rows, 0));
  if (quantized_ != nullptr) return RowsOf(inputs_.data(), *quantized_, k, first, rows);
  return {rows, k, inputs_.data() + static_cast<size_t>(first) * k, {}};
}

void Absorption::IntoLatent(const AbsorbedKv& kv_b, const Heads& q, int rows, float* out,
                            ptrdiff_t out_row_stride, ptrdiff_t out_head_stride) {
  const int nope = shape_.nope_dim;
  const size_t parts = kv_b.key_up(0).size();
  const size_t blocks = parts * shape_.num_heads;
  quantized_ = IsPacked(kv_b.key_up(0)[0].linear) ? &keys_quantized_ : nullptr;
  if (quantized_ != nullptr) quantized_->Resize(static_cast<int>(blocks) * rows, nope);
  const ItemCost cost = CostOfElements(static_cast<int64_t>(parts) * nope);
  pool_.ParallelFor(int64_t{rows} * shape_.num_heads, cost, [&](int64_t item, int) {
    const int64_t row = item / shape_.num_heads;
    const int head = static_cast<int>(item % shape_.num_heads);
    const float* const in = q.data + row * q.row_stride + head * q.head_stride;
    for (size_t part = 0; part < parts; ++part) {
      const size_t at = InputRow(head * parts + part, rows, row);
      float* const input = inputs_.data() + at * nope;
      const float* const scales = kv_b.key_up(head)[part].input_scales;
      if (scales == nullptr) {
        std::memcpy(input, in, nope * sizeof(float));
      } else {
        for (int i = 0; i < nope; ++i) input[i] = in[i] * scales[i];
      }
      if (quantized_ != nullptr) QuantizeInto(input, nope, static_cast<int>(at), *quantized_);
    }
  });
  activations_.resize(blocks);
  calls_.resize(blocks);
  for (size_t block = 0; block < blocks; ++block) {
    const int head = static_cast<int>(block / parts);
    const AbsorbedKv::KeyPart& part = kv_b.key_up(head)[block % parts];
    activations_[block] = InputOf(block, rows, nope);
    calls_[block] = {&part.linear, &activations_[block],
                     out + head * out_head_stride + part.first_column, out_row_stride};
  }
  kernels::RunLinears(pool_, calls_);
}

void Absorption::OutOfLatent(const AbsorbedKv& kv_b, const Heads& latents, int rows, float* out,
                             ptrdiff_t out_row_stride) {
  const int rank = shape_.rank;
  const size_t heads = static_cast<size_t>(shape_.num_heads);
  quantized_ = IsPacked(kv_b.value_up(0)) ? &values_quantized_ : nullptr;
  if (quantized_ != nullptr) quantized_->Resize(static_cast<int>(heads) * rows, rank);
  pool_.ParallelFor(int64_t{rows} * shape_.num_heads, CostOfElements(rank), [&](int64_t item, int) {
    const int64_t row = item / shape_.num_heads;
    const int head = static_cast<int>(item % shape_.num_heads);
    const size_t at = InputRow(static_cast<size_t>(head), rows, row);
    float* const input = inputs_.data() + at * rank;
    std::memcpy(input, latents.data + row * latents.row_stride + head * latents.head_stride,
                rank * sizeof(float));
    if (quantized_ != nullptr) QuantizeInto(input, rank, static_cast<int>(at), *quantized_);
  });
  activations_.resize(heads);
  calls_.resize(heads);
  for (size_t head = 0; head < heads; ++head) {
    activations_[head] = InputOf(head, rows, rank);
    calls_[head] = {&kv_b.value_up(static_cast<int>(head)), &activations_[head],
                    out + static_cast<ptrdiff_t>(head) * shape_.v_dim, out_row_stride};
  }
  kernels::RunLinears(pool_, calls_);
}

}  // namespace sheaf

#pragma once
// Absorption: queries into the latent's space and weighted latents out of it, head by head
// (model/attention/absorbed_kv.h has the weights).
//
//   q_latent_h = W_UK_h^T q_nope_h        v_h = W_UV_h o_latent_h
//
// Numbers    4-bit parts read groups of integers, like every product with 4-bit weights.
// Ownership  owns scratch for max_rows rows. Threads: the step thread; uses the whole pool.
// Cost       one read of both matrices a call.

#include <vector>

#include "base/thread_pool.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/quantized_rows.h"
#include "model/attention/absorbed_kv.h"
#include "router/attention/scratch.h"

namespace sheaf {

class Absorption {
 public:
  struct Shape {
    int num_heads = 0;
    int nope_dim = 0;
    int rank = 0;
    int v_dim = 0;
    int max_parts = 1;  // of any layer's key
  };
  // Rows of heads: a head's floats begin head_stride after the last head's, a row row_stride after
  // the last row.
  struct Heads {
    const float* data = nullptr;
    ptrdiff_t row_stride = 0;
    ptrdiff_t head_stride = 0;
  };

  Absorption(const Shape& shape, int max_rows, ThreadPool& pool,
             kernels::ActivationBits bits = kernels::ActivationBits::k16);

  // out: each head's `rank` floats.
  void IntoLatent(const AbsorbedKv& kv_b, const Heads& q, int rows, float* out,
                  ptrdiff_t out_row_stride, ptrdiff_t out_head_stride);
  // out: each head's `v_dim` floats, heads side by side.
  void OutOfLatent(const AbsorbedKv& kv_b, const Heads& latents, int rows, float* out,
                   ptrdiff_t out_row_stride);

 private:
  // Row r of block b of the products' inputs.
  size_t InputRow(size_t block, int rows, int64_t row) const {
    return block * static_cast<size_t>(rows) + static_cast<size_t>(row);
  }
  kernels::Activations InputOf(size_t block, int rows, int k) const;

  const Shape shape_;
  ThreadPool& pool_;
  Scratch inputs_;  // [blocks][rows][k], a block being a head or a part of one
  kernels::QuantizedRowsBuffer keys_quantized_;  // a buffer that keeps its shape is not cleared
  kernels::QuantizedRowsBuffer values_quantized_;
  kernels::QuantizedRowsBuffer* quantized_ = nullptr;  // of the call; null: floats alone
  std::vector<kernels::Activations> activations_;
  std::vector<kernels::LinearCall> calls_;
};

}  // namespace sheaf

#pragma once
// Causal attention of new query tokens over a paged KV cache, grouped-query heads, decode and
// chunked prefill alike.
//
//   out[t][h] = sum_p softmax_p(scale * q[t][h] . K[p][kv(h)]) V[p][kv(h)],  p in [0, position(t)]
//
// Pages: a block holds `block_size` consecutive positions of a sequence. One layer's pool is
//   [num_blocks][2 (K, V)][num_kv_heads][block_size][head_dim] elements of `format`;
// position p of a sequence lives in block block_table[p / block_size] at slot p % block_size.
//
// Numbers    Positions are taken in fixed blocks of kReductionBlock absolute positions: in each the
//            maximum, the exponentials, their sum and the weighted V sum; blocks are then merged in
//            ascending order with the running maximum. The result depends on (q, K, V, position)
//            alone: not on page size, chunking, batch, threads or target.
// Ownership  views only. Threads: splits (sequence, kv head, query tile) over the pool.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "kernels/attention/kv_format.h"

namespace sheaf::kernels {

inline constexpr int kReductionBlock = 64;  // positions

struct KvPool {
  KvFormat format = KvFormat::kF32;
  int block_size = 16;     // tokens
  int num_kv_heads = 0;    // of this rank
  int head_dim = 0;
  uint8_t* data = nullptr;

  size_t head_bytes() const { return size_t(block_size) * head_dim * KvBytes(format); }
  size_t block_bytes() const { return 2 * size_t(num_kv_heads) * head_bytes(); }
  uint8_t* key(int64_t block, int head, int slot) const {
    return data + block * block_bytes() + head * head_bytes() + slot * (head_bytes() / block_size);
  }
  uint8_t* value(int64_t block, int head, int slot) const {
    return key(block, head, slot) + num_kv_heads * head_bytes();
  }
};

// The new tokens of one sequence: positions [first_position, first_position + num_tokens), already
// stored in the pool up to and including themselves.
struct AttentionSequence {
  const int32_t* block_table = nullptr;
  int first_position = 0;
  int num_tokens = 0;
  const float* q = nullptr;  // [num_tokens][num_heads][head_dim], row stride q_stride floats
  float* out = nullptr;      // [num_tokens][num_heads * head_dim], row stride out_stride floats
};

void PagedAttention(ThreadPool& pool, const KvPool& kv, int num_heads, float scale,
                    std::span<const AttentionSequence> sequences, ptrdiff_t q_stride,
                    ptrdiff_t out_stride);

// Writes K and V [num_kv_heads][head_dim] of one token at `position`.
void StoreKvToken(const KvPool& kv, const int32_t* block_table, int position, const float* k,
                  const float* v);

namespace ref {
void PagedAttention(const KvPool& kv, int num_heads, float scale,
                    std::span<const AttentionSequence> sequences, ptrdiff_t q_stride,
                    ptrdiff_t out_stride);
}  // namespace ref

}  // namespace sheaf::kernels

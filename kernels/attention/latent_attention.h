#pragma once
// Absorbed multi-head latent attention over a chosen set of positions: all heads share one key a
// token (latent and rotated key) and one value (the latent). Queries come in with the key's
// up-projection absorbed, outputs go out as latents. models: GLM-5.1.
//
//   out[h] = sum_p softmax_p(scale * q[h] . (latent[p], rope_key[p])) latent[p],  p in positions
//
// Shapes     q [num_heads][latent_dim + rope_dim], out [num_heads][latent_dim].
// Numbers    The list of positions is cut into blocks of kReductionBlock consecutive entries;
//            within a block and between blocks the arithmetic is that of
//            kernels/attention/paged_attention_ref.cc. The result depends on q, the records and the
//            list alone: not on page size, the other queries, threads or target; no list and the
//            list 0, 1, .. n - 1 give the same bits.
// Ownership  views only. Every listed position is stored in the pool.
// Threads    splits (query, group of heads) over the pool, and the blocks of positions too where
//            there are fewer groups than threads.
// Cost       num_heads * num_positions * (2 * latent_dim + rope_dim) multiply-adds a query; each
//            group of heads converts every record to floats once.

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "kernels/attention/latent_kv.h"

namespace sheaf::kernels {

// One token.
struct LatentQuery {
  const int32_t* block_table = nullptr;
  const int32_t* positions = nullptr;  // [num_positions] ascending; null: 0 .. num_positions - 1
  int num_positions = 0;               // >= 1
  const float* q = nullptr;            // [num_heads][latent_dim + rope_dim]
  float* out = nullptr;                // [num_heads][latent_dim]
};

void LatentAttention(ThreadPool& pool, const LatentPool& kv, int num_heads, float scale,
                     std::span<const LatentQuery> queries);

namespace ref {
void LatentAttention(const LatentPool& kv, int num_heads, float scale,
                     std::span<const LatentQuery> queries);
}  // namespace ref

}  // namespace sheaf::kernels

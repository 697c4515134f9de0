#pragma once
// The scores by which a sparse-attention indexer chooses the positions that a token attends to, and
// the paged cache of the indexer's keys. models: GLM-5.1 (32 heads of 128).
//
//   scores[p] = sum_h w_h * relu(scale * q_h . k_p),  p in [0, num_positions)
//
// Pages      a block holds `block_size` consecutive positions of a sequence; one layer's pool is
//            [num_blocks][block_size][token_bytes]. Position p of a sequence lives in block
//            block_table[p / block_size] at slot p % block_size. A record is `dim` elements of
//            `format`; kFp8E4M3 is scaled e4m3 (kernels/linear/scaled_fp8.h, Fp8Scale::kPowerOfTwo:
//            132 bytes at 128). kFp8E5M2 is not a format of these keys.
// Numbers    dot = fma chain over d ascending, from 0;  s = dot * scale;  r = s > 0 ? s : 0;
//            score = fma(w_h, r, score), heads ascending, from 0. A position's score depends on q,
//            w and its record alone: not on page size, the other queries, threads or target. A NaN
//            dot counts as 0.
// Ownership  views only. `data` has the alignment of a float.
// Threads    splits (consecutive queries of one block table, span of positions) over the pool.
// Cost       num_heads * num_positions * dim multiply-adds a query; consecutive queries with the
//            same `block_table` (a prefill chunk) share the conversion of keys to floats.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "kernels/attention/kv_format.h"

namespace sheaf::kernels {

struct IndexKeyPool {
  KvFormat format = KvFormat::kBF16;
  int block_size = 16;  // tokens
  int dim = 0;
  uint8_t* data = nullptr;

  static size_t TokenBytes(KvFormat format, int dim);

  size_t token_bytes() const { return TokenBytes(format, dim); }
  size_t block_bytes() const { return static_cast<size_t>(block_size) * token_bytes(); }
  uint8_t* token(int64_t block, int slot) const {
    return data + (block * block_size + slot) * token_bytes();
  }
};

// Writes the key [dim] of one token at `position`.
void StoreIndexKey(const IndexKeyPool& keys, const int32_t* block_table, int position,
                   const float* key);

// One token.
struct IndexQuery {
  const int32_t* block_table = nullptr;
  int num_positions = 0;
  const float* q = nullptr;             // [num_heads][dim]
  const float* head_weights = nullptr;  // [num_heads], of either sign
  float* scores = nullptr;              // [num_positions]
};

void IndexScores(ThreadPool& pool, const IndexKeyPool& keys, int num_heads, float scale,
                 std::span<const IndexQuery> queries);

namespace ref {
void IndexScores(const IndexKeyPool& keys, int num_heads, float scale,
                 std::span<const IndexQuery> queries);
}  // namespace ref

}  // namespace sheaf::kernels

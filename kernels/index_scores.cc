#include "kernels/index_scores.h"

#include "kernels/scaled_fp8.h"

namespace sheaf::kernels {

size_t IndexKeyPool::TokenBytes(KvFormat format, int dim) {
  const size_t count = static_cast<size_t>(dim);
  return format == KvFormat::kFp8E4M3 ? ScaledFp8Bytes(count) : count * KvBytes(format);
}

void StoreIndexKey(const IndexKeyPool& keys, const int32_t* block_table, int position,
                   const float* key) {
  uint8_t* record = keys.token(block_table[position / keys.block_size], position % keys.block_size);
  if (keys.format == KvFormat::kFp8E4M3) {
    StoreScaledFp8(key, keys.dim, Fp8Scale::kPowerOfTwo, record);
  } else {
    StoreKv(key, keys.dim, keys.format, record);
  }
}

void IndexScores(ThreadPool& pool, const IndexKeyPool& keys, int num_heads, float scale,
                 std::span<const IndexQuery> queries) {
  pool.ParallelFor(static_cast<int64_t>(queries.size()), [&](int64_t item, int) {
    ref::IndexScores(keys, num_heads, scale, queries.subspan(item, 1));
  });
}

}  // namespace sheaf::kernels

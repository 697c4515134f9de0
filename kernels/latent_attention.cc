#include "kernels/latent_attention.h"

namespace sheaf::kernels {

void LatentAttention(ThreadPool& pool, const LatentPool& kv, int num_heads, float scale,
                     std::span<const LatentQuery> queries) {
  pool.ParallelFor(static_cast<int64_t>(queries.size()), [&](int64_t item, int) {
    ref::LatentAttention(kv, num_heads, scale, queries.subspan(item, 1));
  });
}

}  // namespace sheaf::kernels

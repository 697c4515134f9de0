#include <cmath>
#include <vector>

#include "kernels/attention/index_scores.h"
#include "kernels/linear/scaled_fp8.h"

namespace sheaf::kernels::ref {

void IndexScores(const IndexKeyPool& keys, int num_heads, float scale,
                 std::span<const IndexQuery> queries) {
  std::vector<float> key(keys.dim);
  for (const IndexQuery& query : queries) {
    for (int p = 0; p < query.num_positions; ++p) {
      const uint8_t* record =
          keys.token(query.block_table[p / keys.block_size], p % keys.block_size);
      if (keys.format == KvFormat::kFp8E4M3) {
        ref::LoadScaledFp8(record, keys.dim, key.data());
      } else {
        ref::LoadKv(record, keys.dim, keys.format, key.data());
      }
      float score = 0;
      for (int head = 0; head < num_heads; ++head) {
        const float* q = query.q + static_cast<ptrdiff_t>(head) * keys.dim;
        float dot = 0;
        for (int d = 0; d < keys.dim; ++d) dot = std::fma(q[d], key[d], dot);
        const float s = dot * scale;
        score = std::fma(query.head_weights[head], s > 0 ? s : 0.0f, score);
      }
      query.scores[p] = score;
    }
  }
}

}  // namespace sheaf::kernels::ref

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "kernels/attention/latent_attention.h"
#include "kernels/attention/paged_attention.h"
#include "kernels/simd/lanes_ref.h"

// The arithmetic of kernels/attention/paged_attention_ref.cc, with one key and one value for all
// heads and with reduction blocks that are cut from the list of positions.

namespace sheaf::kernels::ref {
namespace {

struct HeadState {
  explicit HeadState(int latent_dim) : o(latent_dim) {}
  float m = -std::numeric_limits<float>::infinity();
  float l = 0;
  std::vector<float> o;
};

// `keys` holds `count` rows of `key_dim` floats; their first o.size() floats are the values.
void AttendBlock(const float* keys, int count, size_t key_dim, const float* q, float scale,
                 HeadState& state) {
  std::vector<float> e(count);
  float m = -std::numeric_limits<float>::infinity();
  for (int i = 0; i < count; ++i) {
    const float s = Dot(q, keys + i * key_dim, key_dim) * scale;
    e[i] = s;
    m = s > m ? s : m;
  }
  Lanes16 sum;
  std::vector<float> o(state.o.size());
  for (int i = 0; i < count; ++i) {
    const float weight = Exp(e[i] - m);
    sum.Add(i, weight);
    for (size_t d = 0; d < o.size(); ++d) o[d] = std::fma(weight, keys[i * key_dim + d], o[d]);
  }
  const float merged = m > state.m ? m : state.m;
  const float a = Exp(state.m - merged);
  const float b = Exp(m - merged);
  state.l = std::fma(state.l, a, sum.Sum() * b);
  for (size_t d = 0; d < o.size(); ++d) state.o[d] = std::fma(state.o[d], a, o[d] * b);
  state.m = merged;
}

}  // namespace

void LatentAttention(const LatentPool& kv, int num_heads, float scale,
                     std::span<const LatentQuery> queries) {
  const size_t key_dim = static_cast<size_t>(kv.latent_dim) + kv.rope_dim;
  std::vector<float> keys(kReductionBlock * key_dim);
  for (const LatentQuery& query : queries) {
    std::vector<HeadState> states(num_heads, HeadState(kv.latent_dim));
    for (int begin = 0; begin < query.num_positions; begin += kReductionBlock) {
      const int count = std::min(kReductionBlock, query.num_positions - begin);
      for (int i = 0; i < count; ++i) {
        const int p = query.positions != nullptr ? query.positions[begin + i] : begin + i;
        LoadLatentToken(kv, query.block_table, p, keys.data() + i * key_dim);
      }
      for (int head = 0; head < num_heads; ++head) {
        AttendBlock(keys.data(), count, key_dim, query.q + head * key_dim, scale, states[head]);
      }
    }
    for (int head = 0; head < num_heads; ++head) {
      const float inverse = 1.0f / states[head].l;
      float* out = query.out + static_cast<ptrdiff_t>(head) * kv.latent_dim;
      for (int d = 0; d < kv.latent_dim; ++d) out[d] = states[head].o[d] * inverse;
    }
  }
}

}  // namespace sheaf::kernels::ref

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "kernels/attention/paged_attention.h"
#include "kernels/simd/lanes_ref.h"

// The arithmetic that every implementation repeats, for one query row of one head:
//   in each reduction block   s_i = Dot(q, K_i) * scale;  m = max s_i (a > b ? a : b from the first
//   on)
//                             e_i = exp(s_i - m);  l = 16-lane sum of e_i;  o[d] = fma(e_i, V_i[d],
//                             o[d]), i ascending
//   blocks in ascending order M' = max(M, m);  a = exp(M - M');  b = exp(m - M')
//                             L = fma(L, a, l * b);  O[d] = fma(O[d], a, o[d] * b);  from M = -inf,
//                             L = O = 0
//   the end                   out[d] = O[d] * (1 / L)

namespace sheaf::kernels::ref {
namespace {

struct RowState {
  explicit RowState(int head_dim) : o(head_dim) {}
  float m = -std::numeric_limits<float>::infinity();
  float l = 0;
  std::vector<float> o;
};

void AttendBlock(const KvPool& kv, const int32_t* block_table, int kv_head, int begin, int end,
                 const float* q, float scale, RowState& state) {
  std::vector<float> row(kv.head_dim);
  std::vector<float> e(end - begin);
  float m = -std::numeric_limits<float>::infinity();
  for (int p = begin; p < end; ++p) {
    ref::LoadKv(kv.key(block_table[p / kv.block_size], kv_head, p % kv.block_size), kv.head_dim,
                kv.format, row.data());
    const float s = Dot(q, row.data(), kv.head_dim) * scale;
    e[p - begin] = s;
    m = s > m ? s : m;
  }
  Lanes16 sum;
  std::vector<float> o(kv.head_dim);
  for (int p = begin; p < end; ++p) {
    const float weight = Exp(e[p - begin] - m);
    sum.Add(p - begin, weight);
    ref::LoadKv(kv.value(block_table[p / kv.block_size], kv_head, p % kv.block_size), kv.head_dim,
                kv.format, row.data());
    for (int d = 0; d < kv.head_dim; ++d) o[d] = std::fma(weight, row[d], o[d]);
  }
  const float merged = m > state.m ? m : state.m;
  const float a = Exp(state.m - merged);
  const float b = Exp(m - merged);
  state.l = std::fma(state.l, a, sum.Sum() * b);
  for (int d = 0; d < kv.head_dim; ++d) state.o[d] = std::fma(state.o[d], a, o[d] * b);
  state.m = merged;
}

}  // namespace

void PagedAttention(const KvPool& kv, int num_heads, float scale,
                    std::span<const AttentionSequence> sequences, ptrdiff_t q_stride,
                    ptrdiff_t out_stride) {
  const int heads_per_kv = num_heads / kv.num_kv_heads;
  for (const AttentionSequence& sequence : sequences) {
    for (int token = 0; token < sequence.num_tokens; ++token) {
      const int positions = sequence.first_position + token + 1;
      for (int head = 0; head < num_heads; ++head) {
        const float* q = sequence.q + token * q_stride + static_cast<ptrdiff_t>(head) * kv.head_dim;
        float* out = sequence.out + token * out_stride + static_cast<ptrdiff_t>(head) * kv.head_dim;
        RowState state(kv.head_dim);
        for (int begin = 0; begin < positions; begin += kReductionBlock) {
          AttendBlock(kv, sequence.block_table, head / heads_per_kv, begin,
                      std::min(positions, begin + kReductionBlock), q, scale, state);
        }
        const float inverse = 1.0f / state.l;
        for (int d = 0; d < kv.head_dim; ++d) out[d] = state.o[d] * inverse;
      }
    }
  }
}

}  // namespace sheaf::kernels::ref

#include "router/attention/grouped_query/grouped_query_attention.h"

#include <array>
#include <cmath>

#include "kernels/vector/rms_norm.h"

namespace sheaf {

using kernels::Activations;
using kernels::LinearCall;

GroupedQueryAttention::GroupedQueryAttention(const AttentionParts& parts)
    : parts_(parts),
      shape_(std::get<GroupedQueryShape>(parts.config.attention)),
      num_heads_(parts.share.heads.num_queries),
      q_size_(num_heads_ * shape_.head_dim),
      kv_size_(parts.share.heads.count * shape_.head_dim),
      stride_(q_size_ + 2 * kv_size_),
      rope_(parts.max_model_len, shape_.rotary_dim, parts.config.rope),
      projected_(size_t(parts.max_batched_tokens) * stride_) {}

std::vector<size_t> GroupedQueryAttention::PlaneBlockBytes(const GroupedQueryShape& shape,
                                                           int num_layers, HeadRange heads,
                                                           kernels::KvFormat format,
                                                           int block_size) {
  const size_t token_bytes = size_t{2} * heads.count * shape.head_dim * kernels::KvBytes(format);
  return std::vector<size_t>(size_t(num_layers), size_t(block_size) * token_bytes);
}

kernels::KvPool GroupedQueryAttention::Pool(const GroupedQueryShape& shape, HeadRange heads,
                                            const KvCache& cache, int layer) {
  kernels::KvPool pool;
  pool.format = cache.format();
  pool.block_size = cache.block_size();
  pool.num_kv_heads = heads.count;
  pool.head_dim = shape.head_dim;
  pool.data = cache.plane(layer);
  return pool;
}

absl::Status GroupedQueryAttention::Run(int layer, std::span<const StepRow> rows,
                                        const Activations& normed, float* attended) {
  const auto& weights = std::get<GroupedQueryWeights>(parts_.weights.layers[layer].attention);
  const kernels::KvPool kv = Pool(shape_, parts_.share.heads, parts_.cache, layer);
  // The other formats hold what e4m3 needs scales for.
  const KvScales scales =
      kv.format == kernels::KvFormat::kFp8E4M3 ? weights.kv_scales : KvScales{};
  Project(weights, normed);
  RotateAndStore(weights, kv, scales, rows);
  AttendTo(kv, scales, rows, attended);
  return absl::OkStatus();
}

void GroupedQueryAttention::Project(const GroupedQueryWeights& weights, const Activations& normed) {
  StageTimer timer(parts_.timings, &StepTimings::projections);
  float* const q = projected_.data();
  const std::array<LinearCall, 3> calls = {
      LinearCall{&weights.q.view(), &normed, q, stride_},
      LinearCall{&weights.k.view(), &normed, q + q_size_, stride_},
      LinearCall{&weights.v.view(), &normed, q + q_size_ + kv_size_, stride_}};
  kernels::RunLinears(parts_.pool, calls);
}

void GroupedQueryAttention::RotateAndStore(const GroupedQueryWeights& weights,
                                           const kernels::KvPool& kv, const KvScales& scales,
                                           std::span<const StepRow> rows) {
  StageTimer timer(parts_.timings, &StepTimings::rope_store);
  const int head_dim = shape_.head_dim;
  const float eps = parts_.config.rms_norm_eps;
  const ItemCost cost = CostOfElements(2 * int64_t{stride_});
  parts_.pool.ParallelFor(static_cast<int64_t>(rows.size()), cost, [&](int64_t r, int) {
    float* const q = projected_.data() + r * stride_;
    float* const k = q + q_size_;
    if (!weights.q_norm.empty()) {
      kernels::RmsNorm(q, head_dim, weights.q_norm.data(), num_heads_, head_dim, eps, q, head_dim);
      kernels::RmsNorm(k, head_dim, weights.k_norm.data(), parts_.share.heads.count, head_dim, eps,
                       k, head_dim);
    }
    const StepRow& row = rows[static_cast<size_t>(r)];
    kernels::ApplyRope(q, num_heads_, head_dim, rope_, row.position);
    kernels::ApplyRope(k, parts_.share.heads.count, head_dim, rope_, row.position);
    if (!scales.identity()) {
      for (int i = 0; i < kv_size_; ++i) k[i] /= scales.k;
      for (int i = kv_size_; i < 2 * kv_size_; ++i) k[i] /= scales.v;
    }
    kernels::StoreKvToken(kv, row.block_table, row.position, k, k + kv_size_);
  });
}

void GroupedQueryAttention::AttendTo(const kernels::KvPool& kv, const KvScales& scales,
                                     std::span<const StepRow> rows, float* attended) {
  StageTimer timer(parts_.timings, &StepTimings::attention);
  sequences_.clear();
  for (size_t first = 0; first < rows.size();) {
    size_t end = first;
    while (end < rows.size() && rows[end].sequence == rows[first].sequence) ++end;
    sequences_.push_back({rows[first].block_table, rows[first].position,
                          static_cast<int>(end - first), projected_.data() + first * stride_,
                          attended + first * q_size_});
    first = end;
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)) * scales.k;
  kernels::PagedAttention(parts_.pool, kv, num_heads_, scale, sequences_, stride_, q_size_);
  if (scales.v == 1.0f) return;
  const ItemCost cost = CostOfElements(q_size_);
  parts_.pool.ParallelFor(static_cast<int64_t>(rows.size()), cost, [&](int64_t r, int) {
    float* const out = attended + r * q_size_;
    for (int i = 0; i < q_size_; ++i) out[i] *= scales.v;
  });
}

}  // namespace sheaf

#include "router/attention/latent/latent_attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/vector/rms_norm.h"
#include "router/attention/activation_rows.h"

namespace sheaf {

using kernels::Activations;
using kernels::LinearCall;

namespace {

int MostKeyParts(const DecoderWeights& weights) {
  size_t most = 1;
  for (const LayerWeights& layer : weights.layers)
    most = std::max(most, std::get<LatentWeights>(layer.attention).kv_b.key_up(0).size());
  return static_cast<int>(most);
}

}  // namespace

LatentAttention::LatentAttention(const AttentionParts& parts)
    : parts_(parts),
      shape_(std::get<LatentShape>(parts.config.attention)),
      num_heads_(parts.heads.count),
      q_size_(num_heads_ * shape_.qk_dim()),
      out_size_(num_heads_ * shape_.v_dim),
      rope_(parts.max_model_len, shape_.rope_dim, parts.config.rope),
      indexer_(parts, rope_, parts.config.num_layers),
      absorption_({num_heads_, shape_.nope_dim, shape_.kv_lora_rank, shape_.v_dim,
                   MostKeyParts(parts.weights)},
                  kAbsorbedRows, parts.pool),
      q_latent_(size_t(parts.max_batched_tokens) * shape_.q_lora_rank),
      compressed_(size_t(parts.max_batched_tokens) * shape_.cached_dim()),
      q_(size_t(parts.max_batched_tokens) * q_size_),
      absorbed_q_(size_t{kAbsorbedRows} * num_heads_ * shape_.cached_dim()),
      latent_out_(size_t{kAbsorbedRows} * num_heads_ * shape_.kv_lora_rank) {}

std::vector<size_t> LatentAttention::PlaneTokenBytes(const LatentShape& shape, int num_layers,
                                                     kernels::KvFormat format) {
  std::vector<size_t> planes(size_t(num_layers), kernels::LatentPool::TokenBytes(
                                                     format, shape.kv_lora_rank, shape.rope_dim));
  for (const bool full : shape.indexer.is_full) {
    if (full) planes.push_back(SparseIndexer::TokenBytes(shape.indexer, format));
  }
  return planes;
}

kernels::LatentPool LatentAttention::Pool(int layer) const {
  kernels::LatentPool pool;
  pool.format = parts_.cache.format();
  pool.block_size = parts_.cache.block_size();
  pool.latent_dim = shape_.kv_lora_rank;
  pool.rope_dim = shape_.rope_dim;
  pool.data = parts_.cache.plane(layer);
  return pool;
}

void LatentAttention::Run(int layer, std::span<const StepRow> rows, const Activations& normed,
                          float* attended) {
  const auto& weights = std::get<LatentWeights>(parts_.weights.layers[layer].attention);
  const kernels::LatentPool kv = Pool(layer);
  const int num_rows = static_cast<int>(rows.size());
  ProjectDown(weights, normed);
  NormAndStore(weights, kv, rows);
  const int rank = shape_.q_lora_rank;
  const Activations q_latent =
      rank > 0 ? RowsOf(q_latent_.data(), q_latent_quantized_, rank, 0, num_rows) : normed;
  ProjectQueries(weights, rows, q_latent);
  indexer_.Run(layer, rows, normed, q_latent);
  for (int first = 0; first < num_rows; first += kAbsorbedRows) {
    AttendTo(weights, kv, rows, first, std::min(kAbsorbedRows, num_rows - first), attended);
  }
}

void LatentAttention::ProjectDown(const LatentWeights& weights, const Activations& normed) {
  StageTimer timer(parts_.timings, &StepTimings::projections);
  const std::array<LinearCall, 2> calls = {
      LinearCall{&weights.kv_a.view(), &normed, compressed_.data(), shape_.cached_dim()},
      LinearCall{&weights.q_a.view(), &normed, q_latent_.data(), shape_.q_lora_rank}};
  kernels::RunLinears(parts_.pool, std::span(calls).first(shape_.q_lora_rank > 0 ? 2 : 1));
}

void LatentAttention::NormAndStore(const LatentWeights& weights, const kernels::LatentPool& kv,
                                   std::span<const StepRow> rows) {
  StageTimer timer(parts_.timings, &StepTimings::rope_store);
  const int rank = shape_.q_lora_rank;
  const auto pairs =
      shape_.rope_interleave ? kernels::RopePairs::kInterleaved : kernels::RopePairs::kHalfSplit;
  if (rank > 0) q_latent_quantized_.Resize(static_cast<int>(rows.size()), rank);
  const ItemCost cost = CostOfElements(2 * int64_t{rank + shape_.cached_dim()});
  parts_.pool.ParallelFor(static_cast<int64_t>(rows.size()), cost, [&](int64_t r, int) {
    const StepRow& row = rows[static_cast<size_t>(r)];
    if (rank > 0) {
      float* const q_latent = q_latent_.data() + r * rank;
      kernels::RmsNorm(q_latent, rank, weights.q_a_norm.data(), 1, rank, shape_.norm_eps, q_latent,
                       rank);
      QuantizeInto(q_latent, rank, static_cast<int>(r), q_latent_quantized_);
    }
    float* const latent = compressed_.data() + r * shape_.cached_dim();
    float* const k_rope = latent + shape_.kv_lora_rank;
    kernels::RmsNorm(latent, shape_.kv_lora_rank, weights.kv_a_norm.data(), 1, shape_.kv_lora_rank,
                     shape_.norm_eps, latent, shape_.kv_lora_rank);
    kernels::ApplyRope(k_rope, 1, shape_.rope_dim, rope_, row.position, pairs);
    kernels::StoreLatentToken(kv, row.block_table, row.position, latent, k_rope);
  });
}

void LatentAttention::ProjectQueries(const LatentWeights& weights, std::span<const StepRow> rows,
                                     const Activations& input) {
  {
    StageTimer timer(parts_.timings, &StepTimings::projections);
    const LinearCall call{&weights.q_b.view(), &input, q_.data(), q_size_};
    kernels::RunLinears(parts_.pool, {&call, 1});
  }
  StageTimer timer(parts_.timings, &StepTimings::rope_store);
  const auto pairs =
      shape_.rope_interleave ? kernels::RopePairs::kInterleaved : kernels::RopePairs::kHalfSplit;
  const ItemCost cost = CostOfElements(int64_t{num_heads_} * shape_.rope_dim);
  parts_.pool.ParallelFor(static_cast<int64_t>(rows.size()), cost, [&](int64_t r, int) {
    kernels::ApplyRope(q_.data() + r * q_size_ + shape_.nope_dim, num_heads_, shape_.qk_dim(),
                       rope_, rows[static_cast<size_t>(r)].position, pairs);
  });
}

void LatentAttention::AttendTo(const LatentWeights& weights, const kernels::LatentPool& kv,
                               std::span<const StepRow> rows, int first, int count,
                               float* attended) {
  const ptrdiff_t key_dim = shape_.cached_dim(), rank = shape_.kv_lora_rank;
  const float* const q = q_.data() + size_t(first) * q_size_;
  {
    StageTimer timer(parts_.timings, &StepTimings::absorption);
    absorption_.IntoLatent(weights.kv_b, {q, q_size_, shape_.qk_dim()}, count, absorbed_q_.data(),
                           num_heads_ * key_dim, key_dim);
  }
  {
    StageTimer timer(parts_.timings, &StepTimings::attention);
    queries_.clear();
    for (int i = 0; i < count; ++i) {
      float* const absorbed = absorbed_q_.data() + i * num_heads_ * key_dim;
      for (int head = 0; head < num_heads_; ++head) {
        std::memcpy(absorbed + head * key_dim + rank,
                    q + i * q_size_ + head * shape_.qk_dim() + shape_.nope_dim,
                    shape_.rope_dim * sizeof(float));
      }
      const size_t r = static_cast<size_t>(first + i);
      const SparseIndexer::Choice choice = indexer_.choice(r);
      queries_.push_back({rows[r].block_table, choice.positions, choice.count, absorbed,
                          latent_out_.data() + i * num_heads_ * rank});
    }
    const float scale = shape_.score_factor / std::sqrt(static_cast<float>(shape_.qk_dim()));
    kernels::LatentAttention(parts_.pool, kv, num_heads_, scale, queries_);
  }
  StageTimer timer(parts_.timings, &StepTimings::absorption);
  absorption_.OutOfLatent(weights.kv_b, {latent_out_.data(), num_heads_ * rank, rank}, count,
                          attended + size_t(first) * out_size_, out_size_);
}

}  // namespace sheaf

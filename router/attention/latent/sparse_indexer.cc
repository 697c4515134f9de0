#include "router/attention/latent/sparse_indexer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/attention/top_positions.h"
#include "kernels/vector/layer_norm.h"

namespace sheaf {
namespace {

using kernels::Activations;
using kernels::LinearCall;

constexpr float kKeyNormEps = 1e-6f;  // of the indexer's LayerNorm, in no config
// Scores alive at once: a wave of tokens is as large as this allows, and at least one token.
constexpr size_t kWaveScores = size_t{16} << 20;

kernels::RopePairs Pairs(bool interleave) {
  return interleave ? kernels::RopePairs::kInterleaved : kernels::RopePairs::kHalfSplit;
}

}  // namespace

SparseIndexer::SparseIndexer(const AttentionParts& parts, const kernels::RopeTable& rope,
                             int first_plane)
    : parts_(parts),
      shape_(std::get<LatentShape>(parts.config.attention).indexer),
      rope_(rope),
      q_size_(shape_.num_heads * shape_.head_dim),
      q_(size_t(parts.max_batched_tokens) * q_size_),
      k_(size_t(parts.max_batched_tokens) * shape_.head_dim),
      head_weights_(size_t(parts.max_batched_tokens) * shape_.num_heads) {
  int plane = first_plane;
  for (const bool full : shape_.is_full) plane_of_.push_back(full ? plane++ : -1);
}

size_t SparseIndexer::TokenBytes(const IndexerShape& shape, kernels::KvFormat format) {
  return kernels::IndexKeyPool::TokenBytes(format, shape.head_dim);
}

kernels::IndexKeyPool SparseIndexer::Keys(int layer) const {
  kernels::IndexKeyPool keys;
  keys.format = parts_.cache.format();
  keys.block_size = parts_.cache.block_size();
  keys.dim = shape_.head_dim;
  keys.data = parts_.cache.plane(plane_of_[static_cast<size_t>(layer)]);
  return keys;
}

void SparseIndexer::Run(int layer, std::span<const StepRow> rows, const Activations& normed,
                        const Activations& q_latent) {
  if (shape_.topk == 0) {  // no layer has an indexer
    choices_.resize(rows.size());
    for (size_t r = 0; r < rows.size(); ++r) choices_[r] = {nullptr, rows[r].position + 1};
  }
  if (plane_of_[static_cast<size_t>(layer)] < 0) return;
  const IndexerWeights& weights =
      *std::get<LatentWeights>(parts_.weights.layers[layer].attention).indexer;
  const kernels::IndexKeyPool keys = Keys(layer);
  Project(weights, normed, q_latent);
  RotateAndStore(weights, keys, rows);
  StageTimer timer(parts_.timings, &StepTimings::indexer);
  Choose(keys, rows);
}

void SparseIndexer::Project(const IndexerWeights& weights, const Activations& normed,
                            const Activations& q_latent) {
  StageTimer timer(parts_.timings, &StepTimings::projections);
  const std::array<LinearCall, 3> calls = {
      LinearCall{&weights.wq_b.view(), &q_latent, q_.data(), q_size_},
      LinearCall{&weights.wk.view(), &normed, k_.data(), shape_.head_dim},
      LinearCall{&weights.weights_proj.view(), &normed, head_weights_.data(), shape_.num_heads}};
  kernels::RunLinears(parts_.pool, calls);
}

void SparseIndexer::RotateAndStore(const IndexerWeights& weights, const kernels::IndexKeyPool& keys,
                                   std::span<const StepRow> rows) {
  StageTimer timer(parts_.timings, &StepTimings::rope_store);
  const kernels::RopePairs pairs = Pairs(shape_.rope_interleave);
  const float head_scale = 1.0f / std::sqrt(static_cast<float>(shape_.num_heads));
  const ItemCost cost = CostOfElements(2 * int64_t{q_size_ + shape_.head_dim});
  parts_.pool.ParallelFor(static_cast<int64_t>(rows.size()), cost, [&](int64_t r, int) {
    const StepRow& row = rows[static_cast<size_t>(r)];
    float* const k = k_.data() + r * shape_.head_dim;
    kernels::LayerNorm(k, weights.k_norm_weight.data(), weights.k_norm_bias.data(), shape_.head_dim,
                       kKeyNormEps, k);
    kernels::ApplyRope(k, 1, shape_.head_dim, rope_, row.position, pairs);
    kernels::StoreIndexKey(keys, row.block_table, row.position, k);
    if (row.position < shape_.topk) return;  // it will not ask
    kernels::ApplyRope(q_.data() + r * q_size_, shape_.num_heads, shape_.head_dim, rope_,
                       row.position, pairs);
    float* const head_weights = head_weights_.data() + r * shape_.num_heads;
    for (int head = 0; head < shape_.num_heads; ++head) head_weights[head] *= head_scale;
  });
}

void SparseIndexer::Choose(const kernels::IndexKeyPool& keys, std::span<const StepRow> rows) {
  choices_.resize(rows.size());
  scored_rows_.clear();
  int most_positions = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    choices_[r] = {nullptr, rows[r].position + 1};
    if (rows[r].position < shape_.topk) continue;
    scored_rows_.push_back(static_cast<int>(r));
    most_positions = std::max(most_positions, rows[r].position + 1);
  }
  if (scored_rows_.empty()) return;
  chosen_.resize(scored_rows_.size() * shape_.topk);
  const size_t stride = static_cast<size_t>(most_positions);
  const size_t wave = std::min(scored_rows_.size(), std::max<size_t>(1, kWaveScores / stride));
  scores_.Resize(wave * stride);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  for (size_t first = 0; first < scored_rows_.size(); first += wave) {
    const size_t count = std::min(wave, scored_rows_.size() - first);
    queries_.clear();
    for (size_t i = 0; i < count; ++i) {
      const size_t r = static_cast<size_t>(scored_rows_[first + i]);
      queries_.push_back({rows[r].block_table, rows[r].position + 1, q_.data() + r * q_size_,
                          head_weights_.data() + r * shape_.num_heads,
                          scores_.data() + i * stride});
    }
    kernels::IndexScores(parts_.pool, keys, shape_.num_heads, scale, queries_);
    const ItemCost cost = CostOfElements(most_positions);
    parts_.pool.ParallelFor(static_cast<int64_t>(count), cost, [&](int64_t i, int) {
      int32_t* const positions = chosen_.data() + (first + i) * shape_.topk;
      const kernels::IndexQuery& query = queries_[static_cast<size_t>(i)];
      kernels::TopPositions(query.scores, query.num_positions, shape_.topk, positions);
      choices_[static_cast<size_t>(scored_rows_[first + i])] = {positions, shape_.topk};
    });
  }
}

void SparseIndexer::KeepRows(std::span<const int> kept) {
  if (choices_.empty()) return;  // no layer has run yet
  for (size_t r = 0; r < kept.size(); ++r) choices_[r] = choices_[static_cast<size_t>(kept[r])];
  choices_.resize(kept.size());
}

SparseIndexer::Choice SparseIndexer::choice(size_t r) const { return choices_[r]; }

}  // namespace sheaf

#include "router/attention/latent/latent_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/status.h"
#include "kernels/vector/rms_norm.h"
#include "router/attention/activation_rows.h"

namespace sheaf {

using kernels::Activations;
using kernels::LinearCall;

namespace {

// Whether ranks keep latents by position: where few of them are read.
bool AreSharedByPosition(const LatentShape& shape, const KvShare& share) {
  return shape.indexer.topk > 0 && share.num_ranks > 1 && !share.whole_latents;
}

// Of each block's latents, what the rank keeps.
KeptSlots LatentSlots(const LatentShape& shape, const KvShare& share, int block_size) {
  return AreSharedByPosition(shape, share) ? SlotsOfRank(block_size, share.rank, share.num_ranks)
                                           : SlotsOfRank(block_size, 0, 1);
}

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
      num_heads_(parts.share.heads.count),
      q_size_(num_heads_ * shape_.qk_dim()),
      out_size_(num_heads_ * shape_.v_dim),
      slots_(LatentSlots(shape_, parts.cache.share(), parts.cache.block_size())),
      rope_(parts.max_model_len, shape_.rope_dim, parts.config.rope),
      indexer_(parts, rope_, parts.config.num_layers),
      absorption_({num_heads_, shape_.nope_dim, shape_.kv_lora_rank, shape_.v_dim,
                   MostKeyParts(parts.weights)},
                  kAbsorbedRows, parts.pool, parts.activation_bits),
      q_latent_(parts, shape_.q_lora_rank, &RankShare::query_latent),
      compressed_(parts, shape_.cached_dim(), &RankShare::latent),
      q_(size_t(parts.max_batched_tokens) * q_size_),
      absorbed_q_(size_t{kAbsorbedRows} * num_heads_ * shape_.cached_dim()),
      latent_out_(size_t{kAbsorbedRows} * num_heads_ * shape_.kv_lora_rank),
      q_latent_quantized_(parts.activation_bits) {
  if (parts.ranks == nullptr || !AreSharedByPosition(shape_, parts.cache.share())) return;
  gathered_.emplace(parts.ranks->group, parts.pool,
                    SlotsOfRanks(parts.cache.block_size(), parts.share.num_ranks), kMaxRecords);
}

std::vector<size_t> LatentAttention::PlaneBlockBytes(const LatentShape& shape, int num_layers,
                                                     kernels::KvFormat format, const KvShare& share,
                                                     int block_size) {
  const auto latents = static_cast<size_t>(LatentSlots(shape, share, block_size).count);
  const auto keys = static_cast<size_t>(SlotsOfRank(block_size, share.rank, share.num_ranks).count);
  std::vector<size_t> planes(
      size_t(num_layers),
      latents * kernels::LatentPool::TokenBytes(format, shape.kv_lora_rank, shape.rope_dim));
  for (const bool full : shape.indexer.is_full) {
    if (full) planes.push_back(keys * SparseIndexer::TokenBytes(shape.indexer, format));
  }
  return planes;
}

uint64_t LatentAttention::BytesAtOnce(const LatentShape& shape, const KvShare& share) {
  uint64_t bytes = sizeof(float) * uint64_t{kAbsorbedRows} *
                   static_cast<uint64_t>(share.heads.count) *
                   static_cast<uint64_t>(shape.cached_dim() + shape.kv_lora_rank);
  if (shape.indexer.topk > 0) bytes += SparseIndexer::kWaveScoreBytes;
  if (AreSharedByPosition(shape, share)) {
    bytes += 2 * kMaxRecords *
             kernels::LatentPool::TokenBytes(kernels::KvFormat::kBF16, shape.kv_lora_rank,
                                             shape.rope_dim);
  }
  return bytes;
}

kernels::LatentPool LatentAttention::Pool(int layer) const {
  kernels::LatentPool pool;
  pool.format = parts_.cache.format();
  pool.block_size = slots_.count;
  pool.latent_dim = shape_.kv_lora_rank;
  pool.rope_dim = shape_.rope_dim;
  pool.data = parts_.cache.plane(layer);
  return pool;
}

absl::Status LatentAttention::Run(int layer, std::span<const StepRow> rows,
                                  const Activations& normed, float* attended) {
  const auto& weights = std::get<LatentWeights>(parts_.weights.layers[layer].attention);
  const kernels::LatentPool kv = Pool(layer);
  const int num_rows = static_cast<int>(rows.size());
  SHEAF_RETURN_IF_ERROR(ProjectDown(layer, weights, normed));
  NormAndStore(weights, kv, rows);
  const int rank = shape_.q_lora_rank;
  const Activations q_latent =
      rank > 0 ? RowsOf(q_latent_.all(), q_latent_quantized_, rank, 0, num_rows) : normed;
  ProjectQueries(weights, rows, q_latent);
  SHEAF_RETURN_IF_ERROR(indexer_.Run(layer, rows, q_latent));
  for (int first = 0; first < num_rows;) {
    int end = num_rows;
    if (gathered_) {
      // What a cut loop leaves would be taken for positions.
      if (parts_.pool.cut()) return absl::AbortedError("every sequence of the step is over");
      StageTimer timer(parts_.timings, &StepTimings::gather);
      SHEAF_ASSIGN_OR_RETURN(end, gathered_->Gather(kv, rows, indexer_.choices(), first));
    }
    const kernels::LatentPool& records = gathered_ ? gathered_->pool() : kv;
    for (; first < end; first += kAbsorbedRows) {
      AttendTo(weights, records, rows, first, std::min(first + kAbsorbedRows, end), attended);
    }
    first = end;
  }
  return absl::OkStatus();
}

absl::Status LatentAttention::ProjectDown(int layer, const LatentWeights& weights,
                                          const Activations& normed) {
  calls_.clear();
  pieces_.clear();
  const auto add = [&](const LoadedLinear& linear, const SplitRows& rows) {
    pieces_.push_back(rows.piece());
    if (rows.own_columns() == 0) return;
    calls_.push_back({&linear.view(), &normed, rows.own(), rows.own_columns()});
  };
  add(weights.kv_a, compressed_);
  if (shape_.q_lora_rank > 0) add(weights.q_a, q_latent_);
  indexer_.AddProducts(layer, normed, calls_);
  indexer_.AddPieces(layer, pieces_);
  {
    StageTimer timer(parts_.timings, &StepTimings::projections);
    kernels::RunLinears(parts_.pool, calls_);
  }
  return PutTogether(parts_, normed.num_rows, pieces_);
}

void LatentAttention::NormAndStore(const LatentWeights& weights, const kernels::LatentPool& kv,
                                   std::span<const StepRow> rows) {
  StageTimer timer(parts_.timings, &StepTimings::rope_store);
  const int rank = shape_.q_lora_rank;
  const auto pairs =
      shape_.rope_interleave ? kernels::RopePairs::kInterleaved : kernels::RopePairs::kHalfSplit;
  // Latents are normed and stored by who keeps them, the others' rows are not looked at again.
  if (rank > 0) q_latent_quantized_.Resize(static_cast<int>(rows.size()), rank);
  const ItemCost cost = CostOfElements(2 * int64_t{rank + shape_.cached_dim()});
  parts_.pool.ParallelFor(static_cast<int64_t>(rows.size()), cost, [&](int64_t r, int) {
    const StepRow& row = rows[static_cast<size_t>(r)];
    if (rank > 0) {
      float* const q_latent = q_latent_.all() + r * rank;
      kernels::RmsNorm(q_latent, rank, weights.q_a_norm.data(), 1, rank, shape_.norm_eps, q_latent,
                       rank);
      QuantizeInto(q_latent, rank, static_cast<int>(r), q_latent_quantized_);
    }
    if (!slots_.Has(row.position)) return;
    float* const latent = compressed_.all() + r * shape_.cached_dim();
    float* const k_rope = latent + shape_.kv_lora_rank;
    kernels::RmsNorm(latent, shape_.kv_lora_rank, weights.kv_a_norm.data(), 1, shape_.kv_lora_rank,
                     shape_.norm_eps, latent, shape_.kv_lora_rank);
    kernels::ApplyRope(k_rope, 1, shape_.rope_dim, rope_, row.position, pairs);
    kernels::StoreLatentToken(kv, row.block_table, slots_.LocalOf(row.position), latent, k_rope);
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

kernels::LatentQuery LatentAttention::QueryOf(std::span<const StepRow> rows, int r) const {
  if (gathered_) return gathered_->query(r);
  const PositionChoice& choice = indexer_.choices()[static_cast<size_t>(r)];
  kernels::LatentQuery query;
  query.block_table = rows[static_cast<size_t>(r)].block_table;
  query.positions = choice.positions;
  query.num_positions = choice.count;
  return query;
}

void LatentAttention::AttendTo(const LatentWeights& weights, const kernels::LatentPool& kv,
                               std::span<const StepRow> rows, int first, int end, float* attended) {
  const int count = end - first;
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
      kernels::LatentQuery& query = queries_.emplace_back(QueryOf(rows, first + i));
      query.q = absorbed;
      query.out = latent_out_.data() + i * num_heads_ * rank;
    }
    const float scale = shape_.score_factor / std::sqrt(static_cast<float>(shape_.qk_dim()));
    kernels::LatentAttention(parts_.pool, kv, num_heads_, scale, queries_);
  }
  StageTimer timer(parts_.timings, &StepTimings::absorption);
  absorption_.OutOfLatent(weights.kv_b, {latent_out_.data(), num_heads_ * rank, rank}, count,
                          attended + size_t(first) * out_size_, out_size_);
}

}  // namespace sheaf

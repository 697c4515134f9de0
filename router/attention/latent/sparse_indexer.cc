#include "router/attention/latent/sparse_indexer.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "kernels/attention/top_positions.h"
#include "kernels/vector/layer_norm.h"

namespace sheaf {
namespace {

using kernels::Activations;
using kernels::LinearCall;

constexpr float kKeyNormEps = 1e-6f;  // of the indexer's LayerNorm, in no config

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
      slots_(SlotsOfRanks(parts.cache.block_size(), parts.share.num_ranks)),
      own_slots_(slots_[static_cast<size_t>(parts.share.rank)]),
      q_(parts, q_size_, &RankShare::index_query),
      k_(parts, shape_.head_dim, &RankShare::index_key),
      head_weights_(parts, shape_.num_heads, &RankShare::index_heads) {
  int plane = first_plane;
  for (const bool full : shape_.is_full) plane_of_.push_back(full ? plane++ : -1);
}

size_t SparseIndexer::TokenBytes(const IndexerShape& shape, kernels::KvFormat format) {
  return kernels::IndexKeyPool::TokenBytes(format, shape.head_dim);
}

const IndexerWeights* SparseIndexer::WeightsOf(int layer) const {
  if (plane_of_[static_cast<size_t>(layer)] < 0) return nullptr;
  return &*std::get<LatentWeights>(parts_.weights.layers[layer].attention).indexer;
}

kernels::IndexKeyPool SparseIndexer::Keys(int layer) const {
  kernels::IndexKeyPool keys;
  keys.format = parts_.cache.format();
  keys.block_size = own_slots_.count;
  keys.dim = shape_.head_dim;
  keys.data = parts_.cache.plane(plane_of_[static_cast<size_t>(layer)]);
  return keys;
}

void SparseIndexer::AddProducts(int layer, const Activations& normed,
                                std::vector<LinearCall>& calls) {
  const IndexerWeights* const weights = WeightsOf(layer);
  if (weights == nullptr) return;
  const auto add = [&](const LoadedLinear& linear, const SplitRows& rows) {
    if (rows.own_columns() == 0) return;
    calls.push_back({&linear.view(), &normed, rows.own(), rows.own_columns()});
  };
  add(weights->wk, k_);
  add(weights->weights_proj, head_weights_);
}

void SparseIndexer::AddPieces(int layer, std::vector<RankRows::Piece>& pieces) const {
  if (WeightsOf(layer) == nullptr) return;
  pieces.push_back(k_.piece());
  pieces.push_back(head_weights_.piece());
}

absl::Status SparseIndexer::Run(int layer, std::span<const StepRow> rows,
                                const Activations& q_latent) {
  if (shape_.topk == 0) {  // no layer has an indexer
    choices_.resize(rows.size());
    for (size_t r = 0; r < rows.size(); ++r) choices_[r] = {nullptr, rows[r].position + 1};
  }
  const IndexerWeights* const weights = WeightsOf(layer);
  if (weights == nullptr) return absl::OkStatus();
  const kernels::IndexKeyPool keys = Keys(layer);
  FindScoredRows(rows);
  if (!scored_rows_.empty()) SHEAF_RETURN_IF_ERROR(ProjectQueries(*weights, q_latent));
  RotateAndStore(*weights, keys, rows);
  if (scored_rows_.empty()) return absl::OkStatus();
  if (parts_.ranks != nullptr) return ChooseTogether(keys, rows);
  Choose(keys, rows);
  return absl::OkStatus();
}

void SparseIndexer::FindScoredRows(std::span<const StepRow> rows) {
  choices_.resize(rows.size());
  scored_rows_.clear();
  for (size_t r = 0; r < rows.size(); ++r) {
    choices_[r] = {nullptr, rows[r].position + 1};
    if (rows[r].position >= shape_.topk) scored_rows_.push_back(static_cast<int>(r));
  }
  chosen_.resize(scored_rows_.size() * shape_.topk);
}

absl::Status SparseIndexer::ProjectQueries(const IndexerWeights& weights,
                                           const Activations& q_latent) {
  if (q_.own_columns() > 0) {
    StageTimer timer(parts_.timings, &StepTimings::projections);
    const LinearCall call{&weights.wq_b.view(), &q_latent, q_.own(), q_.own_columns()};
    kernels::RunLinears(parts_.pool, {&call, 1});
  }
  const RankRows::Piece piece = q_.piece();
  return PutTogether(parts_, q_latent.num_rows, {&piece, 1});
}

void SparseIndexer::RotateAndStore(const IndexerWeights& weights, const kernels::IndexKeyPool& keys,
                                   std::span<const StepRow> rows) {
  StageTimer timer(parts_.timings, &StepTimings::rope_store);
  const kernels::RopePairs pairs = Pairs(shape_.rope_interleave);
  const float head_scale = 1.0f / std::sqrt(static_cast<float>(shape_.num_heads));
  const ItemCost cost = CostOfElements(2 * int64_t{q_size_ + shape_.head_dim});
  parts_.pool.ParallelFor(static_cast<int64_t>(rows.size()), cost, [&](int64_t r, int) {
    const StepRow& row = rows[static_cast<size_t>(r)];
    if (own_slots_.Has(row.position)) {
      float* const k = k_.all() + r * shape_.head_dim;
      kernels::LayerNorm(k, weights.k_norm_weight.data(), weights.k_norm_bias.data(),
                         shape_.head_dim, kKeyNormEps, k);
      kernels::ApplyRope(k, 1, shape_.head_dim, rope_, row.position, pairs);
      kernels::StoreIndexKey(keys, row.block_table, own_slots_.LocalOf(row.position), k);
    }
    if (row.position < shape_.topk) return;  // it will not ask
    kernels::ApplyRope(q_.all() + r * q_size_, shape_.num_heads, shape_.head_dim, rope_,
                       row.position, pairs);
    float* const head_weights = head_weights_.all() + r * shape_.num_heads;
    for (int head = 0; head < shape_.num_heads; ++head) head_weights[head] *= head_scale;
  });
}

template <typename Take>
void SparseIndexer::Score(const kernels::IndexKeyPool& keys, std::span<const StepRow> rows,
                          const Take& take) {
  int most = 0;
  for (const int r : scored_rows_)
    most = std::max(most, own_slots_.Count(rows[static_cast<size_t>(r)].position + 1));
  const size_t stride = static_cast<size_t>(most);
  const size_t wave = std::min(
      scored_rows_.size(),
      std::max<size_t>(1, kWaveScoreBytes / (sizeof(float) * std::max<size_t>(1, stride))));
  scores_.Resize(wave * stride);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  for (size_t first = 0; first < scored_rows_.size(); first += wave) {
    const size_t count = std::min(wave, scored_rows_.size() - first);
    queries_.clear();
    for (size_t i = 0; i < count; ++i) {
      const size_t r = static_cast<size_t>(scored_rows_[first + i]);
      queries_.push_back({rows[r].block_table, own_slots_.Count(rows[r].position + 1),
                          q_.all() + r * q_size_, head_weights_.all() + r * shape_.num_heads,
                          scores_.data() + i * stride});
    }
    kernels::IndexScores(parts_.pool, keys, shape_.num_heads, scale, queries_);
    parts_.pool.ParallelFor(static_cast<int64_t>(count), CostOfElements(most), [&](int64_t i, int) {
      const kernels::IndexQuery& query = queries_[static_cast<size_t>(i)];
      take(first + static_cast<size_t>(i), query.scores, query.num_positions);
    });
  }
}

void SparseIndexer::Choose(const kernels::IndexKeyPool& keys, std::span<const StepRow> rows) {
  StageTimer timer(parts_.timings, &StepTimings::indexer);
  Score(keys, rows, [&](size_t i, const float* scores, int num_positions) {
    int32_t* const positions = chosen_.data() + i * shape_.topk;
    kernels::TopPositions(scores, num_positions, shape_.topk, positions);
    choices_[static_cast<size_t>(scored_rows_[i])] = {positions, shape_.topk};
  });
}

std::vector<size_t> SparseIndexer::CandidateStarts(const KeptSlots& slots,
                                                   std::span<const StepRow> rows) const {
  std::vector<size_t> starts(1, 0);
  for (const int r : scored_rows_) {
    const int kept = slots.Count(rows[static_cast<size_t>(r)].position + 1);
    starts.push_back(starts.back() + static_cast<size_t>(std::min(kept, shape_.topk)));
  }
  return starts;
}

absl::Status SparseIndexer::ChooseTogether(const kernels::IndexKeyPool& keys,
                                           std::span<const StepRow> rows) {
  std::vector<std::vector<size_t>> starts;
  for (const KeptSlots& slots : slots_) starts.push_back(CandidateStarts(slots, rows));
  FindCandidates(keys, rows, starts[static_cast<size_t>(parts_.share.rank)]);
  // What a cut loop leaves would be taken for positions.
  if (parts_.pool.cut()) return absl::AbortedError("every sequence of the step is over");
  RankGroup::Parts parts;
  {
    StageTimer timer(parts_.timings, &StepTimings::gather);
    const std::span<const PositionCandidate> own(candidates_);
    SHEAF_ASSIGN_OR_RETURN(parts,
                           parts_.ranks->group.Gather(
                               {reinterpret_cast<const uint8_t*>(own.data()), own.size_bytes()}));
  }
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    const size_t wanted = starts[rank].back() * sizeof(PositionCandidate);
    if (parts[rank].size() == wanted) continue;
    return absl::DataLossError(
        absl::StrFormat("attention rank %d: wanted %d bytes of candidates, got %d", rank, wanted,
                        parts[rank].size()));
  }
  SHEAF_RETURN_IF_ERROR(Merge(parts, starts, rows));
  return parts_.pool.cut() ? absl::AbortedError("every sequence of the step is over")
                           : absl::OkStatus();
}

void SparseIndexer::FindCandidates(const kernels::IndexKeyPool& keys, std::span<const StepRow> rows,
                                   const std::vector<size_t>& starts) {
  StageTimer timer(parts_.timings, &StepTimings::indexer);
  candidates_.resize(starts.back());
  places_.resize(starts.back());
  Score(keys, rows, [&](size_t i, const float* scores, int num_positions) {
    const size_t first = starts[i], count = starts[i + 1] - first;
    int32_t* const places = places_.data() + first;
    kernels::TopPositions(scores, num_positions, static_cast<int>(count), places);
    for (size_t c = 0; c < count; ++c)
      candidates_[first + c] = {scores[places[c]], own_slots_.PositionOf(places[c])};
  });
}

absl::Status SparseIndexer::Merge(RankGroup::Parts parts,
                                  const std::vector<std::vector<size_t>>& starts,
                                  std::span<const StepRow> rows) {
  StageTimer timer(parts_.timings, &StepTimings::indexer);
  merges_.resize(static_cast<size_t>(parts_.pool.num_threads()));
  std::atomic<int> liar{-1};
  const auto merge = [&](int64_t i, int thread) {
    const auto at = static_cast<size_t>(i);
    const auto r = static_cast<size_t>(scored_rows_[at]);
    MergeScratch& scratch = merges_[static_cast<size_t>(thread)];
    scratch.Clear();
    for (size_t rank = 0; rank < parts.size(); ++rank) {
      const auto of_row = parts[rank].subspan(
          starts[rank][at] * sizeof(PositionCandidate),
          (starts[rank][at + 1] - starts[rank][at]) * sizeof(PositionCandidate));
      if (!AddCandidates(of_row, slots_[rank], rows[r].position, scratch))
        liar.store(static_cast<int>(rank), std::memory_order_relaxed);
    }
    int32_t* const positions = chosen_.data() + at * shape_.topk;
    choices_[r] = {positions, shape_.topk};
    if (liar.load(std::memory_order_relaxed) < 0) BestOfCandidates(shape_.topk, scratch, positions);
  };
  parts_.pool.ParallelFor(static_cast<int64_t>(scored_rows_.size()),
                          CostOfElements(8 * int64_t{shape_.topk} * parts_.share.num_ranks), merge);
  if (liar.load() < 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat(
      "attention rank %d: its candidates are not positions that it keeps", liar.load()));
}

void SparseIndexer::KeepRows(std::span<const int> kept) {
  if (choices_.empty()) return;  // no layer has run yet
  for (size_t r = 0; r < kept.size(); ++r) choices_[r] = choices_[static_cast<size_t>(kept[r])];
  choices_.resize(kept.size());
}

}  // namespace sheaf

#pragma once
// SparseIndexer: which positions each token of a step attends to (DSA of GLM-5.1).
//
//   q = wq_b(q_latent), k = LayerNorm(wk(x)), both with RoPE on their first rope_dim;
//   score(t, s) = sum_h (weights_proj(x)_h / sqrt(heads)) relu(q_h . k_s / sqrt(head_dim)),  s <= t
//   chosen(t)   = the index_topk largest, among equals the lowest position
//
// A token that sees no more than index_topk positions attends to all of them: nothing is scored,
// but its key is stored all the same, for later tokens. A layer without an indexer of its own keeps
// the choice of the last one before it. In a model without indexers every token attends to all.
//
// Several ranks share each product by its rows and put the rows together. Of the keys each keeps
// and scores some positions of every block (kept_slots.h); the best of all are chosen from the best
// of each (position_candidates.h).
//
// Numbers    queries, scores and head weights in float32; a key is rounded as the cache holds it
//            (kernels/attention/index_scores.h), nothing else is. The choice is exact for the
//            scores.
// Cache      one plane for each full layer, kernels::IndexKeyPool.
// Cost       a scan of all the keys of a sequence for each token beyond index_topk: 8,192 fused
//            multiply-adds a position at 32 heads of 128, then one selection, O(positions). Of
//            several ranks each scans its part; two gathers then, of queries and of 8 bytes a
//            candidate. Without such a token none.
// Ownership, threads, errors as router/attention/attention.h. The choice lives until the next step.
// Source     DeepSeek-V3.2's lightning indexer; GLM's differs in interleaved RoPE.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention/index_scores.h"
#include "kernels/attention/rope.h"
#include "kernels/linear/linear.h"
#include "kernels/simd/aligned_floats.h"
#include "router/attention/attention.h"
#include "router/attention/latent/kept_slots.h"
#include "router/attention/latent/position_candidates.h"
#include "router/attention/latent/position_choice.h"
#include "router/attention/latent/split_rows.h"

namespace sheaf {

class SparseIndexer {
 public:
  // first_plane: the cache's plane of the first full layer; the others follow.
  SparseIndexer(const AttentionParts& parts, const kernels::RopeTable& rope, int first_plane);

  static size_t TokenBytes(const IndexerShape& shape, kernels::KvFormat format);
  // Scores alive at once: a wave of tokens is as large as this allows, and at least one token.
  static constexpr size_t kWaveScoreBytes = size_t{64} << 20;

  // Of a full layer, the products of normed rows that Run reads: they go with the layer's own, in
  // one loop and one gather. `calls` and `pieces` point into this.
  void AddProducts(int layer, const kernels::Activations& normed,
                   std::vector<kernels::LinearCall>& calls);
  void AddPieces(int layer, std::vector<RankRows::Piece>& pieces) const;

  // Stores the keys of the step's tokens and chooses for them, if the layer is a full one: after
  // its products. q_latent holds a row for each of `rows`.
  absl::Status Run(int layer, std::span<const StepRow> rows, const kernels::Activations& q_latent);

  // Of the step's rows, by the last full layer that ran.
  std::span<const PositionChoice> choices() const { return choices_; }
  // Of the step's rows these, ascending, are left.
  void KeepRows(std::span<const int> kept);

 private:
  const IndexerWeights* WeightsOf(int layer) const;  // null: not a full layer
  kernels::IndexKeyPool Keys(int layer) const;
  absl::Status ProjectQueries(const IndexerWeights& weights, const kernels::Activations& q_latent);
  void RotateAndStore(const IndexerWeights& weights, const kernels::IndexKeyPool& keys,
                      std::span<const StepRow> rows);
  // The rows that see more than topk positions, into scored_rows_; the others' choice is all.
  void FindScoredRows(std::span<const StepRow> rows);
  // Scores the positions that this rank keeps for every scored row and calls take(i, scores, how
  // many) with each, i in scored_rows_, from the pool's threads.
  template <typename Take>
  void Score(const kernels::IndexKeyPool& keys, std::span<const StepRow> rows, const Take& take);
  void Choose(const kernels::IndexKeyPool& keys, std::span<const StepRow> rows);
  // The same among ranks.
  absl::Status ChooseTogether(const kernels::IndexKeyPool& keys, std::span<const StepRow> rows);
  // This rank's candidates of every scored row.
  void FindCandidates(const kernels::IndexKeyPool& keys, std::span<const StepRow> rows,
                      const std::vector<size_t>& starts);
  // The choice of every scored row from all ranks' candidates.
  absl::Status Merge(RankGroup::Parts parts, const std::vector<std::vector<size_t>>& starts,
                     std::span<const StepRow> rows);
  // Where each scored row's candidates begin in a rank's part; at the end the size.
  std::vector<size_t> CandidateStarts(const KeptSlots& slots, std::span<const StepRow> rows) const;

  const AttentionParts parts_;
  const IndexerShape& shape_;
  const kernels::RopeTable& rope_;
  const int q_size_;
  const std::vector<KeptSlots> slots_;  // by rank
  const KeptSlots own_slots_;
  std::vector<int> plane_of_;  // by layer; -1: not a full one

  SplitRows q_;                    // heads * head_dim
  SplitRows k_;                    // head_dim
  SplitRows head_weights_;         // heads
  kernels::AlignedFloats scores_;  // of the positions that this rank keeps
  std::vector<kernels::IndexQuery> queries_;
  std::vector<int> scored_rows_;
  std::vector<PositionCandidate> candidates_;  // this rank's, of several
  std::vector<int32_t> places_;                // theirs among the positions that it keeps
  std::vector<MergeScratch> merges_;           // by thread
  std::vector<int32_t> chosen_;                // [rows][topk]
  std::vector<PositionChoice> choices_;
};

}  // namespace sheaf

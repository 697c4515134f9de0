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
// Numbers    queries, scores and head weights in float32; a key is rounded as the cache holds it
//            (kernels/attention/index_scores.h), nothing else is. The choice is exact for the scores.
// Cache      one plane for each full layer, kernels::IndexKeyPool.
// Cost       a scan of all the keys of a sequence for each token beyond index_topk: 8,192 fused
//            multiply-adds a position at 32 heads of 128, then one selection, O(positions).
// Ownership, threads as router/attention/attention.h. The choice lives until the next step.
// Source     DeepSeek-V3.2's lightning indexer; GLM's differs in interleaved RoPE.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention/index_scores.h"
#include "kernels/attention/rope.h"
#include "kernels/simd/aligned_floats.h"
#include "router/attention/attention.h"
#include "router/attention/scratch.h"

namespace sheaf {

class SparseIndexer {
 public:
  // first_plane: the cache's plane of the first full layer; the others follow.
  SparseIndexer(const AttentionParts& parts, const kernels::RopeTable& rope, int first_plane);

  static size_t TokenBytes(const IndexerShape& shape, kernels::KvFormat format);

  // Stores the keys of the step's tokens and chooses for them, if the layer is a full one. normed
  // and q_latent hold a row for each of `rows`.
  void Run(int layer, std::span<const StepRow> rows, const kernels::Activations& normed,
           const kernels::Activations& q_latent);

  struct Choice {
    const int32_t* positions = nullptr;  // ascending; null: 0 .. count - 1
    int count = 0;
  };
  // Of row r of the step, by the last full layer that ran.
  Choice choice(size_t r) const;
  // Of the step's rows these, ascending, are left.
  void KeepRows(std::span<const int> kept);

 private:
  kernels::IndexKeyPool Keys(int layer) const;
  void Project(const IndexerWeights& weights, const kernels::Activations& normed,
               const kernels::Activations& q_latent);
  void RotateAndStore(const IndexerWeights& weights, const kernels::IndexKeyPool& keys,
                      std::span<const StepRow> rows);
  void Choose(const kernels::IndexKeyPool& keys, std::span<const StepRow> rows);

  const AttentionParts parts_;
  const IndexerShape& shape_;
  const kernels::RopeTable& rope_;
  const int q_size_;
  std::vector<int> plane_of_;  // by layer; -1: not a full one

  Scratch q_;             // [rows][heads][head_dim]
  Scratch k_;             // [rows][head_dim]
  Scratch head_weights_;  // [rows][heads]
  kernels::AlignedFloats scores_;
  std::vector<kernels::IndexQuery> queries_;
  std::vector<int> scored_rows_;
  std::vector<int32_t> chosen_;  // [rows][topk]
  std::vector<Choice> choices_;
};

}  // namespace sheaf

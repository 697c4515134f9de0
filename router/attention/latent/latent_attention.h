#pragma once
// Multi-head latent attention, with a sparse indexer (GLM-5.1) or over every position
// (GLM-4.7-Flash).
//
//   q_latent = norm(q_a(x));  q = q_b(q_latent), per head [nope | rope];  or q = q_proj(x)
//   c | k_rope = kv_a(x);  c = norm(c);  RoPE on q's and k's rotated parts
//   key of head h = [W_UK_h c | k_rope], value = W_UV_h c
//   out = o_proj(softmax(f q . K / sqrt(nope + rope)) V) over the positions that the indexer chose,
//   f = score_factor, 1 but for YaRN
//
// Absorbed form: W_UK^T brings the query into the latent's space, attention runs on the cached
// latents themselves (one key and value for all heads), W_UV brings the result back. It is the only
// form: expanding keys and values would be cheaper for the first tokens of a long prefill, but
// rounds differently, and a token's bytes would depend on the chunk that it came in
// (docs/decisions).
//
// Several ranks have some of the heads each. What all heads read is made in parts and put together:
// the rows of q_a and kv_a in one gather with the indexer's; and where an indexer bounds what a
// token reads, each rank keeps some of every block's latents (kept_slots.h), and those that a step
// reads are gathered (gathered_latents.h). Without an indexer, or where KvShare says so, each rank
// keeps them all.
//
// Cache      plane l: layer l's latents and rotated keys, kernels::LatentPool; then a plane for
//            each full layer's index keys.
// Memory     scratch for the absorbed queries of kAbsorbedRows tokens at a time.
// Everything else as router/attention/attention.h says.

#include <optional>
#include <vector>

#include "kernels/attention/latent_attention.h"
#include "kernels/linear/quantized_rows.h"
#include "router/attention/attention.h"
#include "router/attention/latent/absorption.h"
#include "router/attention/latent/gathered_latents.h"
#include "router/attention/latent/kept_slots.h"
#include "router/attention/latent/sparse_indexer.h"
#include "router/attention/latent/split_rows.h"
#include "router/attention/scratch.h"

namespace sheaf {

class LatentAttention final : public Attention {
 public:
  explicit LatentAttention(const AttentionParts& parts);

  absl::Status Run(int layer, std::span<const StepRow> rows, const kernels::Activations& normed,
                   float* attended) override;
  void KeepRows(std::span<const int> kept) override { indexer_.KeepRows(kept); }

  static std::vector<size_t> PlaneBlockBytes(const LatentShape& shape, int num_layers,
                                             kernels::KvFormat format, const KvShare& share,
                                             int block_size);
  // Of scratch that does not grow with a step's rows, at most: absorbed queries, scores, gathered
  // records.
  static uint64_t BytesAtOnce(const LatentShape& shape, const KvShare& share);

 private:
  static constexpr int kAbsorbedRows = 64;
  // That are gathered at a time: 57 MB of GLM-5.1's in bf16.
  static constexpr size_t kMaxRecords = size_t{48} << 10;

  kernels::LatentPool Pool(int layer) const;
  absl::Status ProjectDown(int layer, const LatentWeights& weights,
                           const kernels::Activations& normed);
  void NormAndStore(const LatentWeights& weights, const kernels::LatentPool& kv,
                    std::span<const StepRow> rows);
  void ProjectQueries(const LatentWeights& weights, std::span<const StepRow> rows,
                      const kernels::Activations& input);
  // Rows [first, end) of `attended`, over the pool in which they find their records.
  void AttendTo(const LatentWeights& weights, const kernels::LatentPool& kv,
                std::span<const StepRow> rows, int first, int end, float* attended);
  // Where row r finds them.
  kernels::LatentQuery QueryOf(std::span<const StepRow> rows, int r) const;

  const AttentionParts parts_;
  const LatentShape& shape_;
  const int num_heads_;  // of this rank
  const int q_size_;
  const int out_size_;     // of the attended heads
  const KeptSlots slots_;  // of this rank: all, unless latents are shared by position
  const kernels::RopeTable rope_;
  SparseIndexer indexer_;
  Absorption absorption_;

  std::optional<GatheredLatents> gathered_;  // where they are
  SplitRows q_latent_;                       // q_lora_rank
  SplitRows compressed_;                     // latent | k_rope
  Scratch q_;                                // [rows][heads][nope | rope]
  Scratch absorbed_q_;                       // [absorbed rows][heads][latent | rope]
  Scratch latent_out_;                       // [absorbed rows][heads][kv_lora_rank]
  kernels::QuantizedRowsBuffer q_latent_quantized_;
  std::vector<kernels::LatentQuery> queries_;
  std::vector<kernels::LinearCall> calls_;
  std::vector<RankRows::Piece> pieces_;
};

}  // namespace sheaf

#pragma once
// RankShare: what one rank of tensor parallelism makes of every product, as ranges of its output
// rows.
//
// A product is never split along the dimension that it sums over: each output is then computed by
// one rank, from whole rows, exactly as a single rank would, and what ranks make together is the
// same to the bit at any number of ranks. The inputs are put together before
// (router/attention/rank_rows.h).
//
//   attention   a range of its heads (HeadRange); of two ranks or more to a key/value head, each
//               has that head whole and some of its query heads
//   what all heads of latent attention share, and its indexer
//               rows of q_a_proj, kv_a_proj, wq_b, wk, weights_proj
//   o_proj, down_proj            rows of the hidden size; of the embedding, the same columns
//   gate_proj, up_proj           rows of the inner width, in whole activation groups where there
//                                are enough
//   the experts' gate, lm_head   rows of experts, of the vocabulary
// Norms are whole on every rank. A range may be empty where a product has fewer rows than there are
// ranks and not every rank needs one: what heads of latent attention share.
//
// Threads    pure.
// Errors     kInvalidArgument: more ranks than some product has rows, naming both.

#include <vector>

#include "absl/status/statusor.h"
#include "model/attention/head_range.h"
#include "model/config.h"

namespace sheaf {

struct IndexRange {
  int first = 0;
  int count = 0;
  int end() const { return first + count; }
};

// What a rank keeps of the KV cache: its heads of every position, or of what all heads read its
// part of the positions (router/attention/kv_cache.h).
struct KvShare {
  HeadRange heads;
  int rank = 0;
  int num_ranks = 1;
  bool whole_latents = false;  // all positions of latents; index keys are shared all the same
};

struct RankShare {
  int rank = 0;
  int num_ranks = 1;
  HeadRange heads;
  IndexRange query_latent;  // rows of q_a_proj; empty without one
  IndexRange latent;        // rows of kv_a_proj; empty without latent attention
  // rows of wq_b, wk, weights_proj; empty without indexers
  IndexRange index_query, index_key, index_heads;
  IndexRange attended;      // columns of attention's output: o_proj's inputs
  IndexRange hidden;        // rows of o_proj and of down_proj, columns of the embedding
  IndexRange dense_inner;   // of the dense layers' feed-forward
  IndexRange shared_inner;  // of the shared expert's; empty without one
  IndexRange gate;          // experts; empty without any
  IndexRange vocabulary;

  KvShare kv(bool whole_latents) const { return {heads, rank, num_ranks, whole_latents}; }
};

absl::StatusOr<RankShare> ShareOfRank(const ModelConfig& config, int rank, int num_ranks);
// Of all ranks, ascending.
absl::StatusOr<std::vector<RankShare>> ShareAmongRanks(const ModelConfig& config, int num_ranks);
// Of a single rank.
RankShare WholeModel(const ModelConfig& config);

}  // namespace sheaf

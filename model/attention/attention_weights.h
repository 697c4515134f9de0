#pragma once
// The weights of one layer's attention, for each kind of attention.
//
// `share` restricts them to what one rank of tensor parallelism makes (model/rank_share.h); a
// Linear of which it has no row is not loaded. Norms are whole on every rank. o_proj is not of
// them: model/decoder_weights.h.
//
// Ownership  owns all of it: what LoadedLinear owns (parts of an arena), the float vectors and the
//            absorbed kv_b_proj. Nothing of the Checkpoint is needed afterwards.
// Errors     as model/linear_loader.h, and a bias that the config promises and the file lacks.

#include <optional>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "model/attention/absorbed_kv.h"
#include "model/attention/kv_scales.h"
#include "model/config.h"
#include "model/linear_loader.h"
#include "model/linear_loads.h"
#include "model/rank_share.h"

namespace sheaf {

struct GroupedQueryWeights {
  LoadedLinear q, k, v;
  std::vector<float> q_norm, k_norm;  // [head_dim]; empty without qk_norm
  KvScales kv_scales;                 // of an e4m3 cache
};

struct IndexerWeights {
  LoadedLinear wq_b, wk, weights_proj;
  std::vector<float> k_norm_weight, k_norm_bias;  // [index_head_dim]
};

struct LatentWeights {
  LoadedLinear q_a, q_b;  // without a rank of queries q_b is q_proj, and there is no q_a
  LoadedLinear kv_a;
  std::vector<float> q_a_norm, kv_a_norm;
  AbsorbedKv kv_b;
  std::optional<IndexerWeights> indexer;  // of full layers
};

using AttentionWeights = std::variant<GroupedQueryWeights, LatentWeights>;

// Plans the layer's Linears (loaded when `loads` is) and reads its norms. `out` must stay where it
// is until then.
absl::Status PlanAttentionWeights(const ModelConfig& config, int layer, const RankShare& share,
                                  LinearLoads& loads, AttentionWeights& out);

// Memory of all of it.
size_t ResidentBytes(const AttentionWeights& weights);

}  // namespace sheaf

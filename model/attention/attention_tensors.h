#pragma once
// The names and shapes of attention's tensors in one layer, for each kind of attention.
//
// Order      the Linears come in the order of the structs below, so a caller may take them apart.
// Threads    pure.

#include <array>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/model_layout.h"

namespace sheaf {

struct GroupedQueryLinears {
  NamedLinear q, k, v, o;
};

struct IndexerLinears {
  NamedLinear wq_b, wk, weights_proj;
};

struct LatentLinears {
  NamedLinear q_a, q_b;  // without a rank of queries q_b is q_proj, and there is no q_a
  NamedLinear kv_a, kv_b, o;
  IndexerLinears indexer;  // of full layers only
};

GroupedQueryLinears NameLinears(const GroupedQueryShape& shape, const ModelConfig& config,
                                int layer);
LatentLinears NameLinears(const LatentShape& shape, const ModelConfig& config, int layer);

// o_proj, of either kind.
NamedLinear OutputLinear(const ModelConfig& config, int layer);
// All Linears of the layer's attention, whatever its kind.
std::vector<NamedLinear> AttentionLinears(const ModelConfig& config, int layer);
// Its norms.
std::vector<NamedPlain> AttentionPlainTensors(const ModelConfig& config, int layer);

}  // namespace sheaf

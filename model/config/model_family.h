#pragma once
// The model types that are served, and what each means where its config.json is silent.
//
// Source     the defaults of the configuration classes of transformers 4.54 to 5.24, which agree
//            wherever they have a class. Widths that every tensor shows have no default here: a
//            config without them is refused.
// Threads    constants.

#include <string_view>

namespace sheaf {

enum class AttentionKind { kGroupedQuery, kLatent, kSparseLatent };

struct ModelFamily {
  std::string_view model_type;
  AttentionKind attention;
  int num_dense_layers;            // before the first layer of experts
  bool mlp_layer_types;            // a list of that name is before first_k_dense_replace
  bool num_experts_first;          // num_experts is before n_routed_experts
  int num_kv_heads;                // 0: as many as query heads
  int experts_per_token;
  float routed_scaling;
  int max_position_embeddings;
  double partial_rotary;
};

// Null for any other model type.
const ModelFamily* FindModelFamily(std::string_view model_type);

// "glm4_moe, glm4_moe_lite or glm_moe_dsa", for messages.
std::string_view ServedModelTypes();

}  // namespace sheaf

#include "model/config/model_family.h"

#include <array>

namespace sheaf {
namespace {

constexpr std::array<ModelFamily, 3> kFamilies = {{
    // GLM-4.5, 4.5-Air, 4.6, 4.7.
    {.model_type = "glm4_moe",
     .attention = AttentionKind::kGroupedQuery,
     .num_dense_layers = 1,
     .mlp_layer_types = false,
     .num_experts_first = false,
     .num_kv_heads = 8,
     .experts_per_token = 8,
     .routed_scaling = 1.0f,
     .max_position_embeddings = 131072,
     .partial_rotary = 0.5},
    // GLM-4.7-Flash.
    {.model_type = "glm4_moe_lite",
     .attention = AttentionKind::kLatent,
     .num_dense_layers = 1,
     .mlp_layer_types = true,
     .num_experts_first = false,
     .num_kv_heads = 0,
     .experts_per_token = 4,
     .routed_scaling = 1.8f,
     .max_position_embeddings = 202752,
     .partial_rotary = 1.0},
    // GLM-5, 5.1, 5.2.
    {.model_type = "glm_moe_dsa",
     .attention = AttentionKind::kSparseLatent,
     .num_dense_layers = 3,
     .mlp_layer_types = true,
     .num_experts_first = true,
     .num_kv_heads = 0,
     .experts_per_token = 8,
     .routed_scaling = 2.5f,
     .max_position_embeddings = 202752,
     .partial_rotary = 1.0},
}};

}  // namespace

const ModelFamily* FindModelFamily(std::string_view model_type) {
  for (const ModelFamily& family : kFamilies) {
    if (family.model_type == model_type) return &family;
  }
  return nullptr;
}

std::string_view ServedModelTypes() { return "glm4_moe, glm4_moe_lite or glm_moe_dsa"; }

}  // namespace sheaf

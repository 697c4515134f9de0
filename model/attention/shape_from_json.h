#pragma once
// Reads the shape of attention out of config.json.
//
// Pure. Errors: kInvalidArgument for a missing or impossible value, kUnimplemented for a kind of
// layer that we do not serve; messages name file, key, layer, wanted, got.

#include "absl/status/statusor.h"
#include "model/attention/attention_shape.h"
#include "model/config/model_family.h"
#include "model/config/rope_json.h"
#include "model/config_json.h"

namespace sheaf {

// What the rest of config.json has said already.
struct ModelDimensions {
  int num_layers = 0;
  int hidden_size = 0;
  int num_heads = 0;
  int max_position_embeddings = 0;
  float rms_norm_eps = 0;
};

// head_dim, num_key_value_heads, attention_bias, use_qk_norm.
absl::StatusOr<GroupedQueryShape> ReadGroupedQueryShape(const JsonObject& object,
                                                        const ModelDimensions& model,
                                                        const ModelFamily& family,
                                                        const RopeConfig& rope);

// q_lora_rank (null: none), kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim; where the
// family is sparse index_*, indexer_types (or the older index_topk_pattern, index_topk_freq and
// index_skip_topk_offset).
absl::StatusOr<LatentShape> ReadLatentShape(const JsonObject& object, const ModelDimensions& model,
                                            const ModelFamily& family, const RopeConfig& rope);

}  // namespace sheaf

// Prints what config.json means, as JSON: for test_config_against_transformers.py.
//   config_dump FILE...      a line a file: the numbers, or {"error": "..."}

#include <fstream>
#include <iostream>
#include <sstream>

#include "model/config.h"
#include "nlohmann/json.hpp"

namespace {

nlohmann::json Dump(const sheaf::ModelConfig& config) {
  nlohmann::json out = {{"vocab_size", config.vocab_size},
                        {"hidden_size", config.hidden_size},
                        {"num_hidden_layers", config.num_layers},
                        {"num_attention_heads", config.num_heads},
                        {"intermediate_size", config.intermediate_size},
                        {"moe_intermediate_size", config.moe_intermediate_size},
                        {"dense_layers", config.num_dense_layers},
                        {"n_routed_experts", config.num_experts},
                        {"n_shared_experts", config.num_shared_experts},
                        {"num_experts_per_tok", config.experts_per_token},
                        {"n_group", config.num_groups},
                        {"topk_group", config.topk_groups},
                        {"norm_topk_prob", config.normalize_topk},
                        {"routed_scaling_factor", config.routed_scaling},
                        {"rms_norm_eps", config.rms_norm_eps},
                        {"max_position_embeddings", config.max_position_embeddings},
                        {"tie_word_embeddings", config.tie_word_embeddings},
                        {"rope_theta", config.rope.theta},
                        {"rope_factor", config.rope.factor},
                        {"rope_magnitude", config.rope.magnitude}};
  if (const auto* const shape = std::get_if<sheaf::GroupedQueryShape>(&config.attention)) {
    out["num_key_value_heads"] = shape->num_kv_heads;
    out["head_dim"] = shape->head_dim;
    out["rotary_dim"] = shape->rotary_dim;
    out["attention_bias"] = shape->bias;
    out["use_qk_norm"] = shape->qk_norm;
    out["frequencies"] = sheaf::kernels::RopeFrequencies(shape->rotary_dim, config.rope);
    return out;
  }
  const auto& shape = std::get<sheaf::LatentShape>(config.attention);
  out["q_lora_rank"] = shape.q_lora_rank;
  out["kv_lora_rank"] = shape.kv_lora_rank;
  out["qk_nope_head_dim"] = shape.nope_dim;
  out["qk_rope_head_dim"] = shape.rope_dim;
  out["v_head_dim"] = shape.v_dim;
  out["attention_bias"] = shape.bias;
  out["frequencies"] = sheaf::kernels::RopeFrequencies(shape.rope_dim, config.rope);
  if (shape.indexer.topk == 0) return out;
  out["index_topk"] = shape.indexer.topk;
  out["indexer_types"] = nlohmann::json::array();
  for (const bool full : shape.indexer.is_full)
    out["indexer_types"].push_back(full ? "full" : "shared");
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::stringstream text;
    text << std::ifstream(argv[i]).rdbuf();
    const auto config = sheaf::ParseModelConfig(text.str(), "", argv[i]);
    std::cout << (config.ok() ? Dump(*config)
                              : nlohmann::json{{"error", std::string(config.status().message())}})
              << "\n";
  }
}

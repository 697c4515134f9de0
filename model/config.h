#pragma once
// ModelConfig: what config.json and generation_config.json say about a checkpoint, in one struct.
//
// Reads the raw JSON and accepts old and new spellings (rope_theta or rope_parameters, torch_dtype
// or dtype, n_routed_experts or num_local_experts or num_experts, method or quant_method, ...).
// What is absent or null means what it means to transformers (model/config/model_family.h). Keys
// that ask for arithmetic which is not implemented are refused; other unknown keys are ignored.
//
// Errors     kNotFound: no config.json. kInvalidArgument: not JSON, a wrong type, a missing or
//            impossible value; the message names file, key, wanted, got. kUnimplemented: another
//            architecture than those of model/config/model_family.h, or other arithmetic.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "kernels/attention/rope.h"
#include "model/attention/attention_shape.h"
#include "model/quantization/module_overrides.h"

namespace sheaf {

// The quantization_config, as hints only: whether a Linear is quantized is read from its tensors.
struct QuantizationHints {
  std::string method;             // "gptq", "auto-round", "compressed-tensors", "awq", "" = none
  std::string checkpoint_format;  // "gptq", "gptq_v2", ...; "" = not said
  std::string packing_format;     // auto-round: "auto_round:auto_gptq", ...
  int bits = 0;                   // 0 = not said
  int group_size = 0;             // -1 = one group a row, 0 = not said
  std::optional<bool> symmetric;  // nothing = not said
  bool desc_act = false;
  // Modules that it calls unquantized, as quantization/module_patterns.h reads them: names, class
  // names, or regular expressions after "re:" or "search:".
  std::vector<std::string> unquantized;
  ModuleOverrides overrides;         // what it says of some modules alone
  std::string symmetric_source;      // for messages: `quantization_config says sym true`
  std::vector<std::string> remarks;  // what it says that is not used, in sentences
  int activation_bits = 0;           // 0 = not said
  int block_rows = 0;                // FP8: outputs and inputs a scale; 0 = not said
  int block_columns = 0;

  // What it says of one module.
  ModuleHints Of(std::string_view module) const;
};

// Sampling defaults of generation_config.json; absent = the server's own default. Greedy ones
// (`do_sample: false`) have temperature 0.
struct GenerationDefaults {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int32_t> top_k, max_new_tokens;
};

struct ModelConfig {
  std::string model_type;  // "glm4_moe", "glm4_moe_lite", "glm_moe_dsa"
  int vocab_size = 0;
  int claimed_vocab_size = 0;  // config.json's, where FitVocabulary found fewer rows
  int hidden_size = 0;
  int num_layers = 0;
  int num_heads = 0;              // query heads
  AttentionShape attention;       // of every layer
  int intermediate_size = 0;      // dense layers
  int moe_intermediate_size = 0;  // one routed expert
  int num_dense_layers = 0;       // first_k_dense_replace
  int num_experts = 0;            // routed experts a layer
  int num_shared_experts = 0;
  int experts_per_token = 0;
  int num_groups = 1;
  int topk_groups = 1;
  bool normalize_topk = true;
  float routed_scaling = 1.0f;
  float rms_norm_eps = 1e-5f;
  kernels::RopeParameters rope;
  int max_position_embeddings = 0;
  bool tie_word_embeddings = false;
  int num_mtp_layers = 0;              // num_nextn_predict_layers: a claim, files often lack them
  std::string dtype;                   // "bfloat16": a claim, tensors have their own; "" = not said
  std::vector<TokenId> eos_token_ids;  // of config.json and of generation_config.json, together
  std::optional<TokenId> pad_token_id;
  QuantizationHints quantization;
  GenerationDefaults generation;
  // What these files leave open, contradict themselves in, or say without effect: sentences.
  std::vector<std::string> remarks;

  bool is_moe_layer(int layer) const { return layer >= num_dense_layers; }
  int num_moe_layers() const { return num_layers - num_dense_layers; }
  int shared_intermediate_size() const { return moe_intermediate_size * num_shared_experts; }
};

// Pure parsers; `source` names the file in messages. generation_json may be empty.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view config_json,
                                             std::string_view generation_json,
                                             std::string_view source);

// Reads config.json, generation_config.json if there, and the quantizer's side file where
// config.json has no quantization_config.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& checkpoint_dir);

}  // namespace sheaf

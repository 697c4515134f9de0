#include "tests/model/tiny_model.h"

#include <gtest/gtest.h>

#include "model/attention/attention_tensors.h"
#include "model/model_layout.h"
#include "nlohmann/json.hpp"
#include "tests/model/weight_packers.h"

namespace sheaf::testing {
namespace {

nlohmann::json TinyConfig(int num_experts, bool tied_head) {
  return {{"model_type", "glm4_moe"},
          {"vocab_size", 96},
          {"hidden_size", 128},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 64},
          {"intermediate_size", 256},
          {"moe_intermediate_size", 128},
          {"first_k_dense_replace", 1},
          {"n_routed_experts", num_experts},
          {"n_shared_experts", 1},
          {"num_experts_per_tok", 2},
          {"attention_bias", true},
          {"use_qk_norm", true},
          {"max_position_embeddings", 512},
          {"num_nextn_predict_layers", 1},
          {"torch_dtype", "bfloat16"},
          {"rope_theta", 1000000},
          {"tie_word_embeddings", tied_head},
          {"quantization_config",
           {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 128}, {"sym", true}}}};
}

class Builder {
 public:
  Builder(TinyModel& model, std::mt19937_64& random) : model_(model), random_(random) {}

  void Plain(const std::string& name, std::vector<int64_t> shape,
             const std::string& dtype = "BF16") {
    model_.tensors[name] = PlainTensor(dtype, std::move(shape), random_);
  }

  void PlainLinear(const NamedLinear& linear) {
    Plain(linear.prefix + ".weight", {linear.n, linear.k});
    model_.matrices[linear.prefix] = Widened(model_.tensors[linear.prefix + ".weight"]);
  }

  void Quantized(const NamedLinear& linear, TinyStorage storage) {
    MatrixOptions options;
    options.negative_scales = true;
    if (storage == TinyStorage::kPackQuantized) options.scale_dtype = "BF16";
    const CodedMatrix matrix = RandomMatrix(linear.n, linear.k, options, random_);
    model_.tensors.merge(storage == TinyStorage::kPackQuantized
                             ? PackPackQuantized(matrix, linear.prefix, false, false)
                             : PackGptq(matrix, linear.prefix, 1, true));
    model_.matrices[linear.prefix] = matrix.Dequantized();
  }

  void FusedExperts(int layer) {
    const ModelConfig& config = model_.config;
    const int64_t experts = config.num_experts, hidden = config.hidden_size,
                  width = config.moe_intermediate_size;
    const std::string prefix = LayerPrefix(layer) + ".mlp.experts.";
    Plain(prefix + "gate_up_proj", {experts, 2 * width, hidden}, "F32");
    Plain(prefix + "down_proj", {experts, hidden, width}, "F32");
    const std::vector<float> gate_up = Widened(model_.tensors[prefix + "gate_up_proj"]);
    const std::vector<float> down = Widened(model_.tensors[prefix + "down_proj"]);
    const auto part = [&](const std::vector<float>& all, int64_t index) {
      const auto first = all.begin() + index * width * hidden;
      return std::vector<float>(first, first + width * hidden);
    };
    for (int expert = 0; expert < config.num_experts; ++expert) {
      const std::string name = ExpertPrefix(layer, expert);
      model_.matrices[name + ".gate_proj"] = part(gate_up, 2 * expert);
      model_.matrices[name + ".up_proj"] = part(gate_up, 2 * expert + 1);
      model_.matrices[name + ".down_proj"] = part(down, expert);
    }
  }

 private:
  TinyModel& model_;
  std::mt19937_64& random_;
};

}  // namespace

void TinyModel::Write(const std::string& directory, int shards) const {
  WriteFile(directory + "/config.json", config_json);
  WriteCheckpoint(directory, tensors, shards);
}

TinyModel MakeTinyModel(TinyStorage storage, int num_experts, std::mt19937_64& random,
                        bool tied_head) {
  TinyModel model;
  model.config_json = TinyConfig(num_experts, tied_head).dump();
  auto config = ParseModelConfig(model.config_json, "", "tiny config");
  EXPECT_TRUE(config.ok()) << config.status();
  model.config = *std::move(config);
  Builder builder(model, random);
  for (const NamedPlain& plain : PlainTensors(model.config)) {
    builder.Plain(plain.name, plain.shape,
                  plain.name.find("correction_bias") != std::string::npos ? "F32" : "BF16");
  }
  const int hidden = model.config.hidden_size;
  for (int layer = 0; layer < model.config.num_layers; ++layer) {
    for (const NamedLinear& linear : AttentionLinears(model.config, layer)) {
      builder.Quantized(linear, TinyStorage::kGptq);
      if (linear.prefix.find("o_proj") == std::string::npos)
        builder.Plain(linear.prefix + ".bias", {linear.n}, "F16");
    }
    const std::string mlp = LayerPrefix(layer) + ".mlp";
    const bool sparse = model.config.is_moe_layer(layer);
    const int width =
        sparse ? model.config.shared_intermediate_size() : model.config.intermediate_size;
    for (const NamedLinear& linear :
         MlpLinears(sparse ? mlp + ".shared_experts" : mlp, hidden, width, ModelPart::kDenseMlp)) {
      builder.PlainLinear(linear);
    }
    if (!sparse) continue;
    if (storage == TinyStorage::kFusedF32) {
      builder.FusedExperts(layer);
      continue;
    }
    for (int expert = 0; expert < num_experts; ++expert) {
      for (const NamedLinear& linear :
           MlpLinears(ExpertPrefix(layer, expert), hidden, model.config.moe_intermediate_size,
                      ModelPart::kRoutedExperts)) {
        if (storage == TinyStorage::kBf16) {
          builder.PlainLinear(linear);
        } else {
          builder.Quantized(linear, storage);
        }
      }
    }
  }
  if (!tied_head) builder.PlainLinear(LmHead(model.config));
  return model;
}

}  // namespace sheaf::testing

#include "model/config.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/attention/shape_from_json.h"
#include "model/config/generation_json.h"
#include "model/config/layer_types.h"
#include "model/config/model_family.h"
#include "model/config/rope_json.h"
#include "model/config/unimplemented_keys.h"
#include "model/config_json.h"
#include "model/quantization/lenient_json.h"
#include "model/quantization/quantization_hints.h"
#include "model/quantization/rotations.h"

namespace sheaf {
namespace {

using nlohmann::json;

// Bounds that keep every product of two of them inside int64, far above any real model.
constexpr int kMaxWidth = 1 << 20;
constexpr int kMaxVocab = 1 << 24;
constexpr int kMaxLayers = 1 << 12;
constexpr int kMaxExperts = 1 << 12;
constexpr int kMaxHeads = 1 << 14;
constexpr int kMaxPositions = 1 << 30;
constexpr uint64_t kMaxConfigBytes = 64 << 20;

absl::StatusOr<const ModelFamily*> ReadFamily(const JsonObject& object, std::string& model_type) {
  SHEAF_RETURN_IF_ERROR(object.String({"model_type"}, model_type));
  if (model_type.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: model_type: missing", object.source()));
  }
  const ModelFamily* const family = FindModelFamily(model_type);
  if (family == nullptr) {
    return absl::UnimplementedError(absl::StrFormat("%s: model_type: wanted %s, got %s",
                                                    object.source(), ServedModelTypes(),
                                                    model_type.substr(0, 60)));
  }
  return family;
}

absl::Status ReadShapes(const JsonObject& object, const ModelFamily& family, ModelConfig& config) {
  const bool required = true;
  SHEAF_RETURN_IF_ERROR(object.Int({"vocab_size"}, 1, kMaxVocab, config.vocab_size, required));
  SHEAF_RETURN_IF_ERROR(object.Int({"hidden_size"}, 1, kMaxWidth, config.hidden_size, required));
  SHEAF_RETURN_IF_ERROR(
      object.Int({"num_hidden_layers"}, 1, kMaxLayers, config.num_layers, required));
  SHEAF_RETURN_IF_ERROR(
      object.Int({"num_attention_heads"}, 1, kMaxHeads, config.num_heads, required));
  SHEAF_RETURN_IF_ERROR(
      object.Int({"intermediate_size"}, 1, kMaxWidth, config.intermediate_size, required));
  config.max_position_embeddings = family.max_position_embeddings;
  SHEAF_RETURN_IF_ERROR(object.Int({"max_position_embeddings"}, 1, kMaxPositions,
                                   config.max_position_embeddings));
  SHEAF_RETURN_IF_ERROR(object.Bool({"tie_word_embeddings"}, config.tie_word_embeddings));
  SHEAF_RETURN_IF_ERROR(object.Int({"num_nextn_predict_layers", "num_mtp_layers"}, 0, kMaxLayers,
                                   config.num_mtp_layers));
  double epsilon = config.rms_norm_eps;
  SHEAF_RETURN_IF_ERROR(object.Number({"rms_norm_eps"}, 0.0, 1.0, epsilon));
  config.rms_norm_eps = static_cast<float>(epsilon);
  // Some writers have "torch.bfloat16"; nothing depends on it, so a strange value is no error.
  if (const json* dtype = object.Find({"dtype", "torch_dtype"});
      dtype != nullptr && dtype->is_string()) {
    config.dtype = dtype->get<std::string>();
  }
  return absl::OkStatus();
}

// A list of kinds. Experts must begin somewhere and not end.
absl::Status ReadLayerKinds(const JsonObject& object, const json& kinds, ModelConfig& config) {
  if (!kinds.is_array() || kinds.size() < static_cast<size_t>(config.num_layers)) {
    return object.Error("mlp_layer_types", "one entry a layer", kinds);
  }
  config.num_dense_layers = 0;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const json& kind = kinds[static_cast<size_t>(layer)];
    if (kind == "dense") {
      if (config.num_dense_layers != layer) {
        return absl::UnimplementedError(absl::StrFormat(
            "%s: mlp_layer_types: layer %d is dense after a sparse one", object.source(), layer));
      }
      ++config.num_dense_layers;
    } else if (kind != "sparse") {
      return object.Error("mlp_layer_types", "\"dense\" or \"sparse\"", kind);
    }
  }
  return absl::OkStatus();
}

// first_k_dense_replace or mlp_layer_types: whichever the family's own configuration class reads.
absl::Status ReadDenseLayers(const JsonObject& object, const ModelFamily& family,
                             ModelConfig& config) {
  config.num_dense_layers = std::min(family.num_dense_layers, config.num_layers);
  const json* const kinds = object.Find({"mlp_layer_types"});
  const bool has_count = object.Find({"first_k_dense_replace"}) != nullptr;
  SHEAF_RETURN_IF_ERROR(object.Int({"first_k_dense_replace"}, 0, kMaxLayers,
                                   config.num_dense_layers));
  config.num_dense_layers = std::min(config.num_dense_layers, config.num_layers);
  if (kinds == nullptr || (has_count && !family.mlp_layer_types)) return absl::OkStatus();
  const int counted = config.num_dense_layers;
  SHEAF_RETURN_IF_ERROR(ReadLayerKinds(object, *kinds, config));
  if (has_count && counted != config.num_dense_layers) {
    config.remarks.push_back(
        absl::StrFormat("%s: mlp_layer_types has %d dense layers, first_k_dense_replace is %d; the "
                        "list counts",
                        object.source(), config.num_dense_layers, counted));
  }
  return absl::OkStatus();
}

// Three names of one number; pruned checkpoints may have left an old one behind.
absl::Status ReadNumExperts(const JsonObject& object, const ModelFamily& family, bool required,
                            ModelConfig& config) {
  static constexpr JsonObject::Keys kPublished = {"n_routed_experts", "num_local_experts",
                                                  "num_experts"};
  static constexpr JsonObject::Keys kNumExpertsFirst = {"num_experts", "n_routed_experts",
                                                        "num_local_experts"};
  const JsonObject::Keys keys = family.num_experts_first ? kNumExpertsFirst : kPublished;
  SHEAF_RETURN_IF_ERROR(object.Int(keys, 1, kMaxExperts, config.num_experts));
  if (required && object.Find(keys) == nullptr) {
    return object.Int({"n_routed_experts"}, 1, kMaxExperts, config.num_experts, required);
  }
  for (const char* key : keys) {
    int other = config.num_experts;
    SHEAF_RETURN_IF_ERROR(object.Int({key}, 1, kMaxExperts, other));
    if (other == config.num_experts) continue;
    config.remarks.push_back(absl::StrFormat("%s: %s is %d; the number of experts is read as %d",
                                             object.source(), key, other, config.num_experts));
  }
  return absl::OkStatus();
}

absl::Status ReadExperts(const JsonObject& object, const ModelFamily& family,
                         ModelConfig& config) {
  SHEAF_RETURN_IF_ERROR(ReadDenseLayers(object, family, config));
  const bool required = config.num_moe_layers() > 0;
  const auto shape_error = [&](std::string_view what) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s", object.source(), what));
  };
  SHEAF_RETURN_IF_ERROR(
      object.Int({"moe_intermediate_size"}, 1, kMaxWidth, config.moe_intermediate_size, required));
  SHEAF_RETURN_IF_ERROR(ReadNumExperts(object, family, required, config));
  config.num_shared_experts = 1;
  SHEAF_RETURN_IF_ERROR(
      object.Int({"n_shared_experts", "num_shared_experts"}, 0, 64, config.num_shared_experts));
  config.experts_per_token = family.experts_per_token;
  SHEAF_RETURN_IF_ERROR(
      object.Int({"num_experts_per_tok"}, 1, kMaxExperts, config.experts_per_token));
  SHEAF_RETURN_IF_ERROR(object.Int({"n_group"}, 1, kMaxExperts, config.num_groups));
  SHEAF_RETURN_IF_ERROR(object.Int({"topk_group"}, 1, kMaxExperts, config.topk_groups));
  SHEAF_RETURN_IF_ERROR(object.Bool({"norm_topk_prob"}, config.normalize_topk));
  double scaling = family.routed_scaling;
  SHEAF_RETURN_IF_ERROR(object.Number({"routed_scaling_factor"}, -1e6, 1e6, scaling));
  config.routed_scaling = static_cast<float>(scaling);
  if (!required) return absl::OkStatus();
  if (config.experts_per_token > config.num_experts) {
    return shape_error(
        absl::StrFormat("num_experts_per_tok: wanted at most n_routed_experts %d, got %d",
                        config.num_experts, config.experts_per_token));
  }
  if (config.num_experts % config.num_groups != 0) {
    return shape_error(absl::StrFormat("n_group: wanted a divisor of n_routed_experts %d, got %d",
                                       config.num_experts, config.num_groups));
  }
  if (config.topk_groups > config.num_groups) {
    return shape_error(absl::StrFormat("topk_group: wanted at most n_group %d, got %d",
                                       config.num_groups, config.topk_groups));
  }
  const int eligible = config.num_experts / config.num_groups * config.topk_groups;
  if (config.experts_per_token > eligible) {
    return shape_error(
        absl::StrFormat("num_experts_per_tok: wanted at most the %d experts of %d groups, got %d",
                        eligible, config.topk_groups, config.experts_per_token));
  }
  return absl::OkStatus();
}

absl::Status ReadAttention(const JsonObject& object, const ModelFamily& family,
                           ModelConfig& config) {
  SHEAF_RETURN_IF_ERROR(CheckLayerTypes(object, family.attention, config.num_layers));
  SHEAF_ASSIGN_OR_RETURN(
      const RopeConfig rope,
      ReadRope(object, family.partial_rotary, config.max_position_embeddings));
  config.rope = rope.rope;
  config.remarks.insert(config.remarks.end(), rope.remarks.begin(), rope.remarks.end());
  const ModelDimensions dimensions = {config.num_layers, config.hidden_size, config.num_heads,
                                      config.max_position_embeddings, config.rms_norm_eps};
  if (family.attention == AttentionKind::kGroupedQuery) {
    SHEAF_ASSIGN_OR_RETURN(config.attention,
                           ReadGroupedQueryShape(object, dimensions, family, rope));
  } else {
    SHEAF_ASSIGN_OR_RETURN(config.attention, ReadLatentShape(object, dimensions, family, rope));
  }
  return absl::OkStatus();
}

// A JSON object as text, already known to parse.
struct JsonText {
  std::string text;
  std::string source;
};

// The object in config.json, else the quantizer's side file.
absl::Status ReadQuantization(const JsonText& config_text, const JsonText* side,
                              QuantizationHints& out) {
  // Parsed once more: the first match of the expressions in it holds, so their order counts.
  const auto root = nlohmann::ordered_json::parse(config_text.text);
  SHEAF_RETURN_IF_ERROR(CheckNoOnlineRotation(root, "", config_text.source));
  if (const auto at = root.find("quantization_config"); at != root.end() && !at->is_null()) {
    if (!at->is_object()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: quantization_config: wanted an object, got %s", config_text.source, ShortJson(*at)));
    }
    SHEAF_ASSIGN_OR_RETURN(out, ReadQuantizationHints(*at, config_text.source));
  } else if (side != nullptr) {
    SHEAF_ASSIGN_OR_RETURN(out, ReadQuantizationHints(nlohmann::ordered_json::parse(side->text),
                                                      side->source));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> FromJson(const json& root, const JsonText& config_text,
                                     const JsonText* side_quantization,
                                     std::string_view generation_json) {
  const std::string& source = config_text.source;
  const JsonObject object(root, source);
  ModelConfig config;
  SHEAF_ASSIGN_OR_RETURN(const ModelFamily* const family, ReadFamily(object, config.model_type));
  SHEAF_RETURN_IF_ERROR(RefuseUnimplementedKeys(object));
  SHEAF_RETURN_IF_ERROR(ReadShapes(object, *family, config));
  SHEAF_RETURN_IF_ERROR(ReadExperts(object, *family, config));
  SHEAF_RETURN_IF_ERROR(ReadAttention(object, *family, config));
  SHEAF_RETURN_IF_ERROR(ReadSpecialTokens(object, config));
  SHEAF_RETURN_IF_ERROR(ReadQuantization(config_text, side_quantization, config.quantization));
  if (!generation_json.empty()) {
    const std::string generation_source = absl::StrFormat("%s (generation_config.json)", source);
    SHEAF_ASSIGN_OR_RETURN(const json generation,
                           ParseJsonObject(generation_json, generation_source));
    SHEAF_RETURN_IF_ERROR(ReadGenerationConfig(JsonObject(generation, generation_source), config));
  }
  return config;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::error_code error;
  if (!file || std::filesystem::is_directory(path, error)) {
    return absl::NotFoundError(absl::StrFormat("%s: cannot open", path));
  }
  const uint64_t size = std::filesystem::file_size(path, error);
  if (error || size > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: wanted at most %d bytes", path, kMaxConfigBytes));
  }
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view config_json,
                                             std::string_view generation_json,
                                             std::string_view source) {
  SHEAF_ASSIGN_OR_RETURN(const json root, ParseJsonObject(config_json, source));
  return FromJson(root, {std::string(config_json), std::string(source)}, nullptr, generation_json);
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& checkpoint_dir) {
  const std::string path = checkpoint_dir + "/config.json";
  SHEAF_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  SHEAF_ASSIGN_OR_RETURN(const json root, ParseJsonObject(text, path));
  std::string generation;
  if (auto read = ReadFile(checkpoint_dir + "/generation_config.json"); read.ok()) {
    generation = *std::move(read);
  } else if (!absl::IsNotFound(read.status())) {
    return read.status();
  }
  std::optional<JsonText> side;
  for (const char* name : {"/quantize_config.json", "/quantization_config.json"}) {
    auto read = ReadFile(checkpoint_dir + name);
    if (!read.ok()) continue;
    side = {*std::move(read), checkpoint_dir + name};
    SHEAF_RETURN_IF_ERROR(ParseJsonObject(side->text, side->source).status());
    break;
  }
  return FromJson(root, {text, path}, side ? &*side : nullptr, generation);
}

}  // namespace sheaf

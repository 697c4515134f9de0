#include "model/model_layout.h"

#include <charconv>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/attention/attention_tensors.h"
#include "model/formats/tensor_checks.h"

namespace sheaf {
namespace {

constexpr std::string_view kLayers = "model.layers.";
constexpr std::string_view kExperts = "mlp.experts.";

// Takes a decimal number and the dot after it off the front.
std::optional<int> TakeNumber(std::string_view& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto length = static_cast<size_t>(end - text.data());
  if (error != std::errc() || length >= text.size() || text[length] != '.') return std::nullopt;
  text.remove_prefix(length + 1);
  return number;
}

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

struct LayerName {
  int layer = 0;
  std::string_view rest;  // "mlp.experts.7.up_proj.qweight"
};

std::optional<LayerName> ParseLayerName(std::string_view name) {
  if (!StartsWith(name, kLayers)) return std::nullopt;
  name.remove_prefix(kLayers.size());
  const std::optional<int> layer = TakeNumber(name);
  if (!layer) return std::nullopt;
  return LayerName{*layer, name};
}

}  // namespace

std::string_view ModelPartName(ModelPart part) {
  static constexpr std::array<std::string_view, kNumModelParts> kNames = {
      "attention",      "indexer",     "dense MLP", "shared experts",
      "routed experts", "router gate", "norms",     "embeddings",
      "lm_head",        "MTP",         "other"};
  return kNames[static_cast<size_t>(part)];
}

std::string LayerPrefix(int layer) { return "model.layers." + std::to_string(layer); }

std::string ExpertPrefix(int layer, int expert) {
  return LayerPrefix(layer) + ".mlp.experts." + std::to_string(expert);
}

absl::StatusOr<LinearPlan> PlanNamedLinear(const Checkpoint& checkpoint,
                                           const QuantizationHints& hints,
                                           const NamedLinear& linear) {
  SHEAF_ASSIGN_OR_RETURN(const LinearPlan plan,
                         PlanLinear(checkpoint, hints, linear.prefix, linear.n, linear.k));
  if (linear.bias == BiasRule::kRequired && plan.bias == nullptr) {
    return RequireTensor(checkpoint, linear.prefix + ".bias").status();
  }
  if (linear.bias == BiasRule::kForbidden && plan.bias != nullptr) {
    return TensorError(*plan.bias, "no bias here", "one");
  }
  return plan;
}

std::array<NamedLinear, 3> MlpLinears(const std::string& prefix, int hidden, int width,
                                      ModelPart part) {
  return {{{prefix + ".gate_proj", width, hidden, part},
           {prefix + ".up_proj", width, hidden, part},
           {prefix + ".down_proj", hidden, width, part}}};
}

NamedLinear LmHead(const ModelConfig& config) {
  return {"lm_head", config.vocab_size, config.hidden_size, ModelPart::kLmHead};
}

std::vector<NamedPlain> PlainTensors(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  std::vector<NamedPlain> all = {
      {kEmbeddingName, {config.vocab_size, hidden}, ModelPart::kEmbeddings},
      {kFinalNormName, {hidden}, ModelPart::kNorms}};
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = LayerPrefix(layer);
    all.push_back({prefix + ".input_layernorm.weight", {hidden}, ModelPart::kNorms});
    all.push_back({prefix + ".post_attention_layernorm.weight", {hidden}, ModelPart::kNorms});
    for (NamedPlain& plain : AttentionPlainTensors(config, layer)) all.push_back(std::move(plain));
    if (config.is_moe_layer(layer)) {
      all.push_back(
          {prefix + ".mlp.gate.weight", {config.num_experts, hidden}, ModelPart::kRouterGate});
      all.push_back({prefix + ".mlp.gate.e_score_correction_bias",
                     {config.num_experts},
                     ModelPart::kRouterGate});
    }
  }
  return all;
}

absl::StatusOr<std::array<LinearPlan, 3>> PlanExpert(const Checkpoint& checkpoint,
                                                     const ModelConfig& config, int layer,
                                                     int expert) {
  const int hidden = config.hidden_size, width = config.moe_intermediate_size;
  std::array<LinearPlan, 3> plans;
  const std::string fused = LayerPrefix(layer) + ".mlp.experts";
  if (checkpoint.Find(fused + ".gate_up_proj") != nullptr) {
    const std::string gate_up = fused + ".gate_up_proj";
    for (int part = 0; part < 2; ++part) {
      SHEAF_ASSIGN_OR_RETURN(
          plans[part], PlanFusedLinear(checkpoint, gate_up, config.num_experts, 2 * width, hidden,
                                       expert, part * width, width));
    }
    SHEAF_ASSIGN_OR_RETURN(
        plans[2], PlanFusedLinear(checkpoint, fused + ".down_proj", config.num_experts, hidden,
                                  width, expert, 0, hidden));
    return plans;
  }
  const auto linears =
      MlpLinears(ExpertPrefix(layer, expert), hidden, width, ModelPart::kRoutedExperts);
  for (size_t i = 0; i < linears.size(); ++i) {
    SHEAF_ASSIGN_OR_RETURN(plans[i], PlanLinear(checkpoint, config.quantization, linears[i].prefix,
                                                linears[i].n, linears[i].k));
  }
  return plans;
}

ModelPart PartOf(std::string_view name, const ModelConfig& config) {
  if (StartsWith(name, "lm_head.") || name == "lm_head") return ModelPart::kLmHead;
  if (StartsWith(name, "model.embed_tokens")) return ModelPart::kEmbeddings;
  if (StartsWith(name, "model.norm")) return ModelPart::kNorms;
  if (StartsWith(name, "mtp.") || StartsWith(name, "model.mtp.")) return ModelPart::kMtp;
  const std::optional<LayerName> parsed = ParseLayerName(name);
  if (!parsed) return ModelPart::kOther;
  if (parsed->layer >= config.num_layers) return ModelPart::kMtp;
  const std::string_view rest = parsed->rest;
  if (rest.find("norm.") != std::string_view::npos) return ModelPart::kNorms;
  if (StartsWith(rest, "self_attn.indexer.")) return ModelPart::kIndexer;
  if (StartsWith(rest, "self_attn.")) return ModelPart::kAttention;
  if (StartsWith(rest, kExperts)) return ModelPart::kRoutedExperts;
  if (StartsWith(rest, "mlp.shared_experts.")) return ModelPart::kSharedExperts;
  if (StartsWith(rest, "mlp.gate.")) return ModelPart::kRouterGate;
  if (StartsWith(rest, "mlp.")) return ModelPart::kDenseMlp;
  return ModelPart::kOther;
}

absl::Status CheckExpertCounts(const Checkpoint& checkpoint, const ModelConfig& config) {
  const TensorInfo* worst = nullptr;
  int highest = config.num_experts - 1;
  for (size_t shard = 0; shard < checkpoint.num_shards(); ++shard) {
    for (const TensorInfo& tensor : checkpoint.shard_tensors(shard)) {
      const std::optional<LayerName> parsed = ParseLayerName(tensor.name);
      if (!parsed || parsed->layer >= config.num_layers || !StartsWith(parsed->rest, kExperts)) {
        continue;
      }
      std::string_view rest = parsed->rest.substr(kExperts.size());
      const std::optional<int> expert = TakeNumber(rest);
      if (expert && *expert > highest) {
        highest = *expert;
        worst = &tensor;
      }
    }
  }
  if (worst != nullptr) {
    return TensorError(*worst,
                       absl::StrFormat("experts 0..%d (n_routed_experts %d)",
                                       config.num_experts - 1, config.num_experts),
                       absl::StrFormat("expert %d", highest));
  }
  for (int layer = config.num_dense_layers; layer < config.num_layers; ++layer) {
    const TensorInfo* const gate = checkpoint.Find(LayerPrefix(layer) + ".mlp.gate.weight");
    if (gate == nullptr) continue;
    SHEAF_RETURN_IF_ERROR(CheckShape(*gate, {config.num_experts, config.hidden_size}));
  }
  return absl::OkStatus();
}

absl::Status CheckExperts(const Checkpoint& checkpoint, const ModelConfig& config) {
  SHEAF_RETURN_IF_ERROR(CheckExpertCounts(checkpoint, config));
  for (int layer = config.num_dense_layers; layer < config.num_layers; ++layer) {
    for (int expert = 0; expert < config.num_experts; ++expert) {
      SHEAF_RETURN_IF_ERROR(PlanExpert(checkpoint, config, layer, expert).status());
    }
  }
  return absl::OkStatus();
}

}  // namespace sheaf

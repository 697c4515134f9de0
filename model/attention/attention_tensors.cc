#include "model/attention/attention_tensors.h"

namespace sheaf {
namespace {

std::string Prefix(int layer) { return LayerPrefix(layer) + ".self_attn"; }

// attention_bias, where it is true, promises the tensors.
BiasRule RuleOf(bool promised) { return promised ? BiasRule::kRequired : BiasRule::kOptional; }

std::vector<NamedLinear> AllLinears(const GroupedQueryShape& shape, const ModelConfig& config,
                                    int layer) {
  const GroupedQueryLinears named = NameLinears(shape, config, layer);
  return {named.q, named.k, named.v, named.o};
}

std::vector<NamedLinear> AllLinears(const LatentShape& shape, const ModelConfig& config,
                                    int layer) {
  const LatentLinears named = NameLinears(shape, config, layer);
  std::vector<NamedLinear> all = {named.q_b, named.kv_a, named.kv_b, named.o};
  if (shape.q_lora_rank > 0) all.insert(all.begin(), named.q_a);
  if (shape.indexer.is_full[static_cast<size_t>(layer)]) {
    all.insert(all.end(), {named.indexer.wq_b, named.indexer.wk, named.indexer.weights_proj});
  }
  return all;
}

std::vector<NamedPlain> AllPlain(const GroupedQueryShape& shape, int layer) {
  if (!shape.qk_norm) return {};
  return {{Prefix(layer) + ".q_norm.weight", {shape.head_dim}, ModelPart::kNorms},
          {Prefix(layer) + ".k_norm.weight", {shape.head_dim}, ModelPart::kNorms}};
}

std::vector<NamedPlain> AllPlain(const LatentShape& shape, int layer) {
  const std::string prefix = Prefix(layer);
  std::vector<NamedPlain> all = {
      {prefix + ".kv_a_layernorm.weight", {shape.kv_lora_rank}, ModelPart::kNorms}};
  if (shape.q_lora_rank > 0) {
    all.push_back({prefix + ".q_a_layernorm.weight", {shape.q_lora_rank}, ModelPart::kNorms});
  }
  if (shape.indexer.is_full[static_cast<size_t>(layer)]) {
    const std::string norm = prefix + ".indexer.k_norm";
    all.push_back({norm + ".weight", {shape.indexer.head_dim}, ModelPart::kNorms});
    all.push_back({norm + ".bias", {shape.indexer.head_dim}, ModelPart::kNorms});
  }
  return all;
}

}  // namespace

GroupedQueryLinears NameLinears(const GroupedQueryShape& shape, const ModelConfig& config,
                                int layer) {
  const std::string prefix = Prefix(layer);
  const int hidden = config.hidden_size;
  const int q = config.num_heads * shape.head_dim, kv = shape.num_kv_heads * shape.head_dim;
  const ModelPart part = ModelPart::kAttention;
  const BiasRule bias = RuleOf(shape.bias);
  return {.q = {prefix + ".q_proj", q, hidden, part, false, bias},
          .k = {prefix + ".k_proj", kv, hidden, part, false, bias},
          .v = {prefix + ".v_proj", kv, hidden, part, false, bias},
          .o = {prefix + ".o_proj", hidden, q, part}};
}

LatentLinears NameLinears(const LatentShape& shape, const ModelConfig& config, int layer) {
  const std::string prefix = Prefix(layer);
  const std::string indexer = prefix + ".indexer";
  const int hidden = config.hidden_size, heads = config.num_heads;
  const IndexerShape& index = shape.indexer;
  const ModelPart part = ModelPart::kAttention;
  const BiasRule bias = RuleOf(shape.bias);
  const bool direct = shape.q_lora_rank == 0;
  return {.q_a = {prefix + ".q_a_proj", shape.q_lora_rank, hidden, part, false, bias},
          .q_b = {prefix + (direct ? ".q_proj" : ".q_b_proj"), heads * shape.qk_dim(),
                  direct ? hidden : shape.q_lora_rank, part},
          .kv_a = {prefix + ".kv_a_proj_with_mqa", shape.cached_dim(), hidden, part, false, bias},
          .kv_b = {prefix + ".kv_b_proj", heads * (shape.nope_dim + shape.v_dim),
                   shape.kv_lora_rank, part, /*absorbed=*/true, BiasRule::kForbidden},
          .o = {prefix + ".o_proj", hidden, heads * shape.v_dim, part, false, bias},
          .indexer = {.wq_b = {indexer + ".wq_b", index.num_heads * index.head_dim,
                               shape.q_lora_rank, ModelPart::kIndexer},
                      .wk = {indexer + ".wk", index.head_dim, hidden, ModelPart::kIndexer},
                      .weights_proj = {indexer + ".weights_proj", index.num_heads, hidden,
                                       ModelPart::kIndexer}}};
}

NamedLinear OutputLinear(const ModelConfig& config, int layer) {
  return std::visit([&](const auto& shape) { return NameLinears(shape, config, layer).o; },
                    config.attention);
}

std::vector<NamedLinear> AttentionLinears(const ModelConfig& config, int layer) {
  return std::visit([&](const auto& shape) { return AllLinears(shape, config, layer); },
                    config.attention);
}

std::vector<NamedPlain> AttentionPlainTensors(const ModelConfig& config, int layer) {
  return std::visit([&](const auto& shape) { return AllPlain(shape, layer); }, config.attention);
}

}  // namespace sheaf

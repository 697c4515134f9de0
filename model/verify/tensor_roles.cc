#include "model/verify/tensor_roles.h"

#include <utility>

#include "model/attention/attention_tensors.h"

namespace sheaf {
namespace {

// Of a layer, after which the others are not looked for: a config may count millions.
constexpr int kMaxMissingExperts = 64;

}  // namespace

TensorRoles::TensorRoles(const Checkpoint& checkpoint, const ModelConfig* config) {
  if (config == nullptr) return;
  const auto add = [&](const NamedLinear& linear) {
    auto plan = PlanNamedLinear(checkpoint, config->quantization, linear);
    if (plan.ok()) AddLinear(*std::move(plan), linear.part);
  };
  for (const NamedPlain& plain : PlainTensors(*config)) {
    const TensorInfo* const tensor = checkpoint.Find(plain.name);
    if (tensor != nullptr) uses_[tensor] = {TensorRole::kPlain, plain.part, nullptr};
  }
  for (int layer = 0; layer < config->num_layers; ++layer) {
    for (const NamedLinear& linear : AttentionLinears(*config, layer)) add(linear);
    const std::string mlp = LayerPrefix(layer) + ".mlp";
    if (!config->is_moe_layer(layer)) {
      for (const NamedLinear& linear : MlpLinears(mlp, config->hidden_size,
                                                  config->intermediate_size, ModelPart::kDenseMlp))
        add(linear);
      continue;
    }
    if (config->num_shared_experts > 0) {
      for (const NamedLinear& linear :
           MlpLinears(mlp + ".shared_experts", config->hidden_size,
                      config->shared_intermediate_size(), ModelPart::kSharedExperts))
        add(linear);
    }
    int missing = 0;
    for (int expert = 0; expert < config->num_experts && missing < kMaxMissingExperts; ++expert) {
      auto plans = PlanExpert(checkpoint, *config, layer, expert);
      if (!plans.ok()) {
        ++missing;
        continue;
      }
      for (LinearPlan& plan : *plans) AddLinear(std::move(plan), ModelPart::kRoutedExperts);
    }
  }
  if (!config->tie_word_embeddings) add(LmHead(*config));
}

void TensorRoles::AddLinear(LinearPlan plan, ModelPart part) {
  linears_.push_back(std::make_unique<const LinearPlan>(std::move(plan)));
  const LinearPlan* const kept = linears_.back().get();
  const auto add = [&](const TensorInfo* tensor, TensorRole role) {
    if (tensor != nullptr) uses_[tensor] = {role, part, kept};
  };
  add(kept->codes, kept->quantized() ? TensorRole::kCodes : TensorRole::kPlain);
  add(kept->scales, TensorRole::kScales);
  add(kept->zeros, TensorRole::kZeros);
  add(kept->g_idx, TensorRole::kGroupIndex);
  add(kept->shape, TensorRole::kShape);
  add(kept->bias, TensorRole::kBias);
}

TensorUse TensorRoles::UseOf(const TensorInfo& tensor) const {
  const auto at = uses_.find(&tensor);
  return at == uses_.end() ? TensorUse{} : at->second;
}

}  // namespace sheaf

#pragma once
// The names and shapes of a checkpoint's tensors: the one place that knows them, but for
// attention's, which are in model/attention/attention_tensors.h.
//
// Loading, `sheaf inspect` and the counts of experts all ask here. A weight's name is
// "<prefix>.<suffix>"; which suffixes a Linear has is model/linear_plan.h's business.
//
// Threads    pure.
// Errors     as model/linear_plan.h; CheckExpertCounts: kInvalidArgument naming tensor, wanted,
//            got.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/linear_plan.h"

namespace sheaf {

enum class ModelPart : uint8_t {
  kAttention,
  kIndexer,
  kDenseMlp,
  kSharedExperts,
  kRoutedExperts,
  kRouterGate,
  kNorms,
  kEmbeddings,
  kLmHead,
  kMtp,
  kOther
};
inline constexpr int kNumModelParts = 11;
std::string_view ModelPartName(ModelPart part);

inline constexpr char kEmbeddingName[] = "model.embed_tokens.weight";
inline constexpr char kFinalNormName[] = "model.norm.weight";

std::string LayerPrefix(int layer);               // "model.layers.3"
std::string ExpertPrefix(int layer, int expert);  // "model.layers.3.mlp.experts.7"

enum class BiasRule : uint8_t { kOptional, kRequired, kForbidden };

struct NamedLinear {
  std::string prefix;
  int n = 0;
  int k = 0;
  ModelPart part = ModelPart::kOther;
  bool absorbed = false;  // kept taken apart: model/attention/absorbed_kv.h
  BiasRule bias = BiasRule::kOptional;
};

// PlanLinear, and whether its bias is there as it must be: what loading and `sheaf inspect` both
// ask, so that neither takes what the other refuses.
absl::StatusOr<LinearPlan> PlanNamedLinear(const Checkpoint& checkpoint,
                                           const QuantizationHints& hints,
                                           const NamedLinear& linear);

// gate_proj, up_proj, down_proj under the prefix.
std::array<NamedLinear, 3> MlpLinears(const std::string& prefix, int hidden, int width,
                                      ModelPart part);
NamedLinear LmHead(const ModelConfig& config);
// Whether logits come from the embedding: the config ties them and no lm_head is stored. A stored
// one counts, as in transformers 5 where both differ.
bool HeadIsEmbedding(const Checkpoint& checkpoint, const ModelConfig& config);

// Norms, gates and correction biases, embedding: what is never quantized. Shapes as in the file.
struct NamedPlain {
  std::string name;
  std::vector<int64_t> shape;
  ModelPart part = ModelPart::kOther;
};
std::vector<NamedPlain> PlainTensors(const ModelConfig& config);

// gate, up and down of a routed expert: per-expert names, or the fused tensors of all experts where
// those exist.
absl::StatusOr<std::array<LinearPlan, 3>> PlanExpert(const Checkpoint& checkpoint,
                                                     const ModelConfig& config, int layer,
                                                     int expert);

// config.vocab_size becomes the rows of embedding and lm_head where those agree on fewer than
// config.json says: some writers round it up, for the padding that an engine adds by itself. Ids
// beyond the rows do not exist. Anything else stays as it is, for loading to refuse.
void FitVocabulary(const Checkpoint& checkpoint, ModelConfig& config);

// The part of the model a tensor or module name belongs to, by its name alone.
ModelPart PartOf(std::string_view name, const ModelConfig& config);

// No tensor of an expert that the config does not count; every gate has one row an expert.
absl::Status CheckExpertCounts(const Checkpoint& checkpoint, const ModelConfig& config);
// That, and PlanExpert of every expert: whatever headers can say against loading any of them.
absl::Status CheckExperts(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace sheaf

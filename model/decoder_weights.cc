#include "model/decoder_weights.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/absent_tensors.h"
#include "model/linear_loads.h"
#include "model/model_layout.h"

namespace sheaf {
namespace {

size_t MatrixBytes(const kernels::DenseMatrix& matrix) {
  return static_cast<size_t>(matrix.n) * matrix.k * kernels::FloatBytes(matrix.format);
}

// Plans the Linears of the model and reads what is not one.
class DecoderLoader {
 public:
  DecoderLoader(const Checkpoint& checkpoint, const ModelConfig& config, HeadRange heads,
                DecoderWeights& weights)
      : checkpoint_(checkpoint),
        config_(config),
        head_is_embedding_(HeadIsEmbedding(checkpoint, config)),
        heads_(heads),
        weights_(weights),
        loads_(checkpoint, config.quantization) {}

  absl::Status Plan() {
    weights_.layers.resize(static_cast<size_t>(config_.num_layers));
    gates_.resize(weights_.layers.size());
    SHEAF_RETURN_IF_ERROR(
        loads_.AddPlain(kEmbeddingName, config_.vocab_size, config_.hidden_size,
                        head_is_embedding_ ? weights_.lm_head : embedding_));
    SHEAF_ASSIGN_OR_RETURN(weights_.final_norm,
                           LoadFloats(checkpoint_, kFinalNormName, config_.hidden_size));
    for (int layer = 0; layer < config_.num_layers; ++layer)
      SHEAF_RETURN_IF_ERROR(PlanLayer(layer));
    return head_is_embedding_ ? absl::OkStatus() : loads_.Add(LmHead(config_), {}, weights_.lm_head);
  }

  absl::Status Load(ThreadPool& pool, const LoadProgress& progress) {
    SHEAF_RETURN_IF_ERROR(loads_.Load(pool, progress));
    weights_.memory = loads_.arena();
    weights_.embedding = (head_is_embedding_ ? weights_.lm_head : embedding_).view().dense;
    for (size_t layer = 0; layer < gates_.size(); ++layer)
      weights_.layers[layer].gate = gates_[layer].view().dense;
    return absl::OkStatus();
  }

 private:
  absl::Status PlanMlp(const std::string& prefix, int width, ModelPart part,
                       FeedForwardWeights& out) {
    const auto linears = MlpLinears(prefix, config_.hidden_size, width, part);
    SHEAF_RETURN_IF_ERROR(loads_.Add(linears[0], {}, out.gate));
    SHEAF_RETURN_IF_ERROR(loads_.Add(linears[1], {}, out.up));
    return loads_.Add(linears[2], {}, out.down);
  }

  absl::Status PlanLayer(int layer) {
    LayerWeights& out = weights_.layers[static_cast<size_t>(layer)];
    const std::string prefix = LayerPrefix(layer);
    const auto floats = [&](const std::string& name, int count,
                            std::vector<float>& values) -> absl::Status {
      SHEAF_ASSIGN_OR_RETURN(values, LoadFloats(checkpoint_, prefix + name, count));
      return absl::OkStatus();
    };
    SHEAF_RETURN_IF_ERROR(floats(".input_layernorm.weight", config_.hidden_size, out.input_norm));
    SHEAF_RETURN_IF_ERROR(
        floats(".post_attention_layernorm.weight", config_.hidden_size, out.post_attention_norm));
    SHEAF_RETURN_IF_ERROR(PlanAttentionWeights(config_, layer, heads_, loads_, out.attention));
    if (!config_.is_moe_layer(layer)) {
      return PlanMlp(prefix + ".mlp", config_.intermediate_size, ModelPart::kDenseMlp,
                     out.feed_forward);
    }
    SHEAF_RETURN_IF_ERROR(loads_.AddPlain(prefix + ".mlp.gate.weight", config_.num_experts,
                                          config_.hidden_size,
                                          gates_[static_cast<size_t>(layer)]));
    SHEAF_RETURN_IF_ERROR(
        floats(".mlp.gate.e_score_correction_bias", config_.num_experts, out.correction_bias));
    if (config_.num_shared_experts == 0) return absl::OkStatus();
    return PlanMlp(prefix + ".mlp.shared_experts", config_.shared_intermediate_size(),
                   ModelPart::kSharedExperts, out.feed_forward);
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const bool head_is_embedding_;
  const HeadRange heads_;
  DecoderWeights& weights_;
  LinearLoads loads_;
  LoadedLinear embedding_;
  std::vector<LoadedLinear> gates_;  // by layer
};

}  // namespace

size_t DecoderWeights::resident_bytes() const {
  size_t bytes = MatrixBytes(embedding) + final_norm.size() * sizeof(float);
  // A tied head is the embedding.
  if (lm_head.view().dense.data != embedding.data) bytes += lm_head.owned_bytes();
  for (const LayerWeights& layer : layers) {
    bytes += sizeof(float) * (layer.input_norm.size() + layer.post_attention_norm.size() +
                              layer.correction_bias.size());
    bytes += MatrixBytes(layer.gate) + ResidentBytes(layer.attention);
    for (const LoadedLinear* linear :
         {&layer.feed_forward.gate, &layer.feed_forward.up, &layer.feed_forward.down}) {
      bytes += linear->owned_bytes();
    }
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<DecoderWeights>> DecoderWeights::Load(
    const Checkpoint& checkpoint, const ModelConfig& config, HeadRange heads,
    ThreadPool& pool, const LoadProgress& progress) {
  const int all = AllHeads(config).count;
  if (heads.first < 0 || heads.count < 1 || heads.count > all - heads.first) {
    return absl::InvalidArgumentError(absl::StrFormat("heads %d + %d: wanted a range of 0..%d",
                                                      heads.first, heads.count, all - 1));
  }
  SHEAF_RETURN_IF_ERROR(JudgeAbsentTensors(checkpoint, config).status());
  SHEAF_RETURN_IF_ERROR(CheckExpertCounts(checkpoint, config));
  auto weights = std::make_unique<DecoderWeights>();
  DecoderLoader loader(checkpoint, config, heads, *weights);
  absl::Status loaded = loader.Plan();
  if (loaded.ok()) loaded = loader.Load(pool, progress);
  // First: what was read of a file that changed is no fault of the values.
  SHEAF_RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  SHEAF_RETURN_IF_ERROR(loaded);
  return weights;
}

}  // namespace sheaf

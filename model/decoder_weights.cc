#include "model/decoder_weights.h"

#include <utility>

#include "base/status.h"
#include "model/absent_tensors.h"
#include "model/attention/attention_tensors.h"
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
  DecoderLoader(const Checkpoint& checkpoint, const ModelConfig& config, const RankShare& share,
                LmHeadDtype lm_head, DecoderWeights& weights)
      : checkpoint_(checkpoint),
        config_(config),
        lm_head_(lm_head),
        one_matrix_(HeadIsEmbedding(checkpoint, config) && share.num_ranks == 1 &&
                    lm_head == LmHeadDtype::kAuto),
        share_(share),
        weights_(weights),
        loads_(checkpoint, config.quantization) {}

  absl::Status Plan() {
    weights_.layers.resize(static_cast<size_t>(config_.num_layers));
    gates_.resize(weights_.layers.size());
    SHEAF_RETURN_IF_ERROR(loads_.AddPlain(
        kEmbeddingName, config_.vocab_size, config_.hidden_size,
        {.first_column = share_.hidden.first, .num_columns = share_.hidden.count},
        one_matrix_ ? weights_.lm_head : embedding_));
    SHEAF_ASSIGN_OR_RETURN(weights_.final_norm,
                           LoadFloats(checkpoint_, kFinalNormName, config_.hidden_size));
    for (int layer = 0; layer < config_.num_layers; ++layer)
      SHEAF_RETURN_IF_ERROR(PlanLayer(layer));
    if (one_matrix_) return absl::OkStatus();
    SHEAF_ASSIGN_OR_RETURN(LinearPlan head, PlanLmHead(checkpoint_, config_, lm_head_));
    loads_.Add(std::move(head), RowsOf(share_.vocabulary), weights_.lm_head);
    return absl::OkStatus();
  }

  absl::Status Load(ThreadPool& pool, const LoadProgress& progress) {
    SHEAF_RETURN_IF_ERROR(loads_.Load(pool, progress));
    weights_.memory = loads_.arena();
    weights_.embedding = (one_matrix_ ? weights_.lm_head : embedding_).view().dense;
    for (size_t layer = 0; layer < gates_.size(); ++layer)
      weights_.layers[layer].gate = gates_[layer].view().dense;
    return absl::OkStatus();
  }

 private:
  static LinearSlice RowsOf(const IndexRange& range) {
    return {.first_row = range.first, .num_rows = range.count};
  }

  absl::Status PlanMlp(const std::string& prefix, int width, const IndexRange& inner,
                       ModelPart part, FeedForwardWeights& out) {
    const auto linears = MlpLinears(prefix, config_.hidden_size, width, part);
    SHEAF_RETURN_IF_ERROR(loads_.Add(linears[0], RowsOf(inner), out.gate));
    SHEAF_RETURN_IF_ERROR(loads_.Add(linears[1], RowsOf(inner), out.up));
    return loads_.Add(linears[2], RowsOf(share_.hidden), out.down);
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
    SHEAF_RETURN_IF_ERROR(PlanAttentionWeights(config_, layer, share_, loads_, out.attention));
    SHEAF_RETURN_IF_ERROR(
        loads_.Add(OutputLinear(config_, layer), RowsOf(share_.hidden), out.attention_out));
    if (!config_.is_moe_layer(layer)) {
      return PlanMlp(prefix + ".mlp", config_.intermediate_size, share_.dense_inner,
                     ModelPart::kDenseMlp, out.feed_forward);
    }
    SHEAF_RETURN_IF_ERROR(loads_.AddPlain(prefix + ".mlp.gate.weight", config_.num_experts,
                                          config_.hidden_size, RowsOf(share_.gate),
                                          gates_[static_cast<size_t>(layer)]));
    SHEAF_RETURN_IF_ERROR(
        floats(".mlp.gate.e_score_correction_bias", config_.num_experts, out.correction_bias));
    if (config_.num_shared_experts == 0) return absl::OkStatus();
    return PlanMlp(prefix + ".mlp.shared_experts", config_.shared_intermediate_size(),
                   share_.shared_inner, ModelPart::kSharedExperts, out.feed_forward);
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const LmHeadDtype lm_head_;
  const bool one_matrix_;  // a rank has columns of the embedding and rows of the head
  const RankShare& share_;
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
    for (const LoadedLinear* linear : {&layer.attention_out, &layer.feed_forward.gate,
                                       &layer.feed_forward.up, &layer.feed_forward.down}) {
      bytes += linear->owned_bytes();
    }
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<DecoderWeights>> DecoderWeights::Load(
    const Checkpoint& checkpoint, const ModelConfig& config, const RankShare& share,
    ThreadPool& pool, const LoadProgress& progress, LmHeadDtype lm_head) {
  SHEAF_RETURN_IF_ERROR(JudgeAbsentTensors(checkpoint, config).status());
  SHEAF_RETURN_IF_ERROR(CheckExpertCounts(checkpoint, config));
  auto weights = std::make_unique<DecoderWeights>();
  DecoderLoader loader(checkpoint, config, share, lm_head, *weights);
  absl::Status loaded = loader.Plan();
  if (loaded.ok()) loaded = loader.Load(pool, progress);
  // First: what was read of a file that changed is no fault of the values.
  SHEAF_RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  SHEAF_RETURN_IF_ERROR(loaded);
  return weights;
}

}  // namespace sheaf

#include "model/inspect/rank_weights.h"

#include <string>
#include <variant>

#include "base/status.h"
#include "model/attention/absorbed_kv.h"
#include "model/attention/attention_tensors.h"
#include "model/model_layout.h"
#include "model/quantization/zero_point_survey.h"

namespace sheaf {
namespace {

int AttentionRows(const NamedLinear& linear, const ModelConfig& config, const RankShare& share) {
  const auto ends = [&](const char* suffix) { return linear.prefix.ends_with(suffix); };
  if (ends(".o_proj")) return share.hidden.count;
  if (const auto* const grouped = std::get_if<GroupedQueryShape>(&config.attention)) {
    return grouped->head_dim * (ends(".q_proj") ? share.heads.num_queries : share.heads.count);
  }
  const auto& latent = std::get<LatentShape>(config.attention);
  if (ends(".q_b_proj") || ends(".q_proj")) return share.heads.count * latent.qk_dim();
  if (ends(".kv_b_proj")) return share.heads.count * (latent.nope_dim + latent.v_dim);
  if (ends(".q_a_proj")) return share.query_latent.count;
  if (ends(".kv_a_proj_with_mqa")) return share.latent.count;
  if (ends(".indexer.wq_b")) return share.index_query.count;
  if (ends(".indexer.wk")) return share.index_key.count;
  return share.index_heads.count;  // weights_proj
}

// Of the Linear's rows, how many the rank has.
int RowsOf(const NamedLinear& linear, const ModelConfig& config, const RankShare& share) {
  const bool down = linear.prefix.ends_with(".down_proj");
  switch (linear.part) {
    case ModelPart::kAttention:
    case ModelPart::kIndexer:
      return AttentionRows(linear, config, share);
    case ModelPart::kDenseMlp:
      return down ? share.hidden.count : share.dense_inner.count;
    case ModelPart::kSharedExperts:
      return down ? share.hidden.count : share.shared_inner.count;
    default:
      return linear.n;
  }
}

std::vector<NamedLinear> LinearsOfLayer(const ModelConfig& config, int layer) {
  std::vector<NamedLinear> all = AttentionLinears(config, layer);
  const std::string mlp = LayerPrefix(layer) + ".mlp";
  const auto add = [&](const std::string& prefix, int width, ModelPart part) {
    for (const NamedLinear& linear : MlpLinears(prefix, config.hidden_size, width, part))
      all.push_back(linear);
  };
  if (!config.is_moe_layer(layer)) {
    add(mlp, config.intermediate_size, ModelPart::kDenseMlp);
  } else if (config.num_shared_experts > 0) {
    add(mlp + ".shared_experts", config.shared_intermediate_size(), ModelPart::kSharedExperts);
  }
  return all;
}

}  // namespace

absl::StatusOr<std::vector<RankWeights>> WeightsOfRanks(const Checkpoint& checkpoint,
                                                        const ModelConfig& config,
                                                        const std::vector<RankShare>& shares,
                                                        LmHeadDtype lm_head) {
  std::vector<RankWeights> weights(shares.size());
  ZeroPointSurvey zero_points(checkpoint);
  const auto add = [&](uint64_t RankWeights::*part, uint64_t whole, int64_t rows,
                       const auto& rows_of) {
    for (size_t rank = 0; rank < shares.size(); ++rank) {
      weights[rank].*part +=
          whole * static_cast<uint64_t>(rows_of(shares[rank])) / static_cast<uint64_t>(rows);
    }
  };
  for (const NamedPlain& plain : PlainTensors(config)) {
    const TensorInfo* const tensor = checkpoint.Find(plain.name);
    if (tensor == nullptr) continue;
    if (plain.name == kEmbeddingName) {
      add(&RankWeights::embedding, tensor->bytes, config.hidden_size,
          [](const RankShare& share) { return share.hidden.count; });
    } else if (plain.part == ModelPart::kRouterGate && plain.shape.size() == 2) {
      add(&RankWeights::moe_layers, tensor->bytes, plain.shape[0],
          [](const RankShare& share) { return share.gate.count; });
    } else {
      add(&RankWeights::other, tensor->bytes, 1, [](const RankShare&) { return 1; });
    }
  }
  const auto add_linear = [&](const NamedLinear& linear,
                              uint64_t RankWeights::*part) -> absl::Status {
    SHEAF_ASSIGN_OR_RETURN(LinearPlan plan,
                           PlanNamedLinear(checkpoint, config.quantization, linear));
    uint64_t whole = plan.file_bytes();
    if (linear.absorbed) {
      const auto& latent = std::get<LatentShape>(config.attention);
      // Packed ones stay packed where all zero points are the middle, which only the file says.
      SHEAF_ASSIGN_OR_RETURN(const bool symmetric, zero_points.IsSymmetric(plan, linear.part));
      if (symmetric) plan.zero_points = ZeroPoints::kSymmetric;
      whole = AbsorbedKv::MemoryBytes(plan, latent.nope_dim, latent.v_dim);
    }
    add(part, whole, linear.n,
        [&](const RankShare& share) { return RowsOf(linear, config, share); });
    return absl::OkStatus();
  };
  for (int layer = 0; layer < config.num_layers; ++layer) {
    for (const NamedLinear& linear : LinearsOfLayer(config, layer)) {
      SHEAF_RETURN_IF_ERROR(
          add_linear(linear, linear.part == ModelPart::kSharedExperts ? &RankWeights::shared_experts
                             : config.is_moe_layer(layer)             ? &RankWeights::moe_layers
                                                          : &RankWeights::dense_layers));
    }
  }
  SHEAF_ASSIGN_OR_RETURN(const LinearPlan head, PlanLmHead(checkpoint, config, lm_head));
  // One rank has a tied head in the embedding.
  if (shares.size() > 1 || head.to_int8 || !HeadIsEmbedding(checkpoint, config)) {
    add(&RankWeights::head, LmHeadBytes(head), head.n,
        [](const RankShare& share) { return share.vocabulary.count; });
  }
  return weights;
}

}  // namespace sheaf

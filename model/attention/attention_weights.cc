#include "model/attention/attention_weights.h"

#include <string>
#include <utility>

#include "base/status.h"
#include "model/attention/attention_tensors.h"

namespace sheaf {
namespace {

absl::Status ReadFloats(const Checkpoint& checkpoint, const std::string& name, int count,
                        std::vector<float>& out) {
  SHEAF_ASSIGN_OR_RETURN(out, LoadFloats(checkpoint, name, count));
  return absl::OkStatus();
}

absl::Status PlanWeights(const GroupedQueryShape& shape, const ModelConfig& config, int layer,
                         const RankShare& share, LinearLoads& loads, AttentionWeights& variant) {
  auto& out = variant.emplace<GroupedQueryWeights>();
  const HeadRange& heads = share.heads;
  const GroupedQueryLinears linears = NameLinears(shape, config, layer);
  const LinearSlice kv_rows = {.first_row = heads.first * shape.head_dim,
                               .num_rows = heads.count * shape.head_dim};
  const LinearSlice q_rows = {.first_row = heads.first_query * shape.head_dim,
                              .num_rows = heads.num_queries * shape.head_dim};
  SHEAF_RETURN_IF_ERROR(loads.Add(linears.q, q_rows, out.q));
  SHEAF_RETURN_IF_ERROR(loads.Add(linears.k, kv_rows, out.k));
  SHEAF_RETURN_IF_ERROR(loads.Add(linears.v, kv_rows, out.v));
  SHEAF_ASSIGN_OR_RETURN(out.kv_scales, ReadKvScales(loads.checkpoint(), layer));
  if (!shape.qk_norm) return absl::OkStatus();
  const std::string prefix = LayerPrefix(layer) + ".self_attn";
  SHEAF_RETURN_IF_ERROR(
      ReadFloats(loads.checkpoint(), prefix + ".q_norm.weight", shape.head_dim, out.q_norm));
  return ReadFloats(loads.checkpoint(), prefix + ".k_norm.weight", shape.head_dim, out.k_norm);
}

// A slice of no rows would be all of them.
absl::Status AddRows(const NamedLinear& linear, const IndexRange& rows, LinearLoads& loads,
                     LoadedLinear& out) {
  if (rows.count == 0) return absl::OkStatus();
  return loads.Add(linear, {.first_row = rows.first, .num_rows = rows.count}, out);
}

absl::Status PlanIndexer(const IndexerShape& shape, const IndexerLinears& linears, int layer,
                         const RankShare& share, LinearLoads& loads, IndexerWeights& out) {
  SHEAF_RETURN_IF_ERROR(AddRows(linears.wq_b, share.index_query, loads, out.wq_b));
  SHEAF_RETURN_IF_ERROR(AddRows(linears.wk, share.index_key, loads, out.wk));
  SHEAF_RETURN_IF_ERROR(AddRows(linears.weights_proj, share.index_heads, loads, out.weights_proj));
  const std::string norm = LayerPrefix(layer) + ".self_attn.indexer.k_norm";
  SHEAF_RETURN_IF_ERROR(
      ReadFloats(loads.checkpoint(), norm + ".weight", shape.head_dim, out.k_norm_weight));
  return ReadFloats(loads.checkpoint(), norm + ".bias", shape.head_dim, out.k_norm_bias);
}

absl::Status PlanWeights(const LatentShape& shape, const ModelConfig& config, int layer,
                         const RankShare& share, LinearLoads& loads, AttentionWeights& variant) {
  auto& out = variant.emplace<LatentWeights>();
  const HeadRange& heads = share.heads;
  const LatentLinears linears = NameLinears(shape, config, layer);
  const auto rows_of = [&](int head_rows) {
    return LinearSlice{.first_row = heads.first * head_rows, .num_rows = heads.count * head_rows};
  };
  if (shape.q_lora_rank > 0)
    SHEAF_RETURN_IF_ERROR(AddRows(linears.q_a, share.query_latent, loads, out.q_a));
  SHEAF_RETURN_IF_ERROR(loads.Add(linears.q_b, rows_of(shape.qk_dim()), out.q_b));
  SHEAF_RETURN_IF_ERROR(AddRows(linears.kv_a, share.latent, loads, out.kv_a));
  SHEAF_RETURN_IF_ERROR(loads.AddConverted(
      linears.kv_b, rows_of(shape.nope_dim + shape.v_dim),
      [&out, &shape, heads](const kernels::Linear& kv_b) -> absl::Status {
        SHEAF_ASSIGN_OR_RETURN(out.kv_b,
                               AbsorbedKv::Build(kv_b, heads.count, shape.nope_dim, shape.v_dim));
        return absl::OkStatus();
      }));
  const std::string prefix = LayerPrefix(layer) + ".self_attn";
  if (shape.q_lora_rank > 0) {
    SHEAF_RETURN_IF_ERROR(ReadFloats(loads.checkpoint(), prefix + ".q_a_layernorm.weight",
                                     shape.q_lora_rank, out.q_a_norm));
  }
  SHEAF_RETURN_IF_ERROR(ReadFloats(loads.checkpoint(), prefix + ".kv_a_layernorm.weight",
                                   shape.kv_lora_rank, out.kv_a_norm));
  if (!shape.indexer.is_full[static_cast<size_t>(layer)]) return absl::OkStatus();
  return PlanIndexer(shape.indexer, linears.indexer, layer, share, loads, out.indexer.emplace());
}

size_t FloatBytesOf(std::initializer_list<const std::vector<float>*> vectors) {
  size_t bytes = 0;
  for (const std::vector<float>* vector : vectors) bytes += vector->size() * sizeof(float);
  return bytes;
}

size_t LinearBytesOf(std::initializer_list<const LoadedLinear*> linears) {
  size_t bytes = 0;
  for (const LoadedLinear* linear : linears) bytes += linear->owned_bytes();
  return bytes;
}

size_t BytesOf(const GroupedQueryWeights& w) {
  return LinearBytesOf({&w.q, &w.k, &w.v}) + FloatBytesOf({&w.q_norm, &w.k_norm});
}

size_t BytesOf(const LatentWeights& w) {
  size_t bytes = LinearBytesOf({&w.q_b, &w.kv_a}) + w.kv_b.memory_bytes() +
                 FloatBytesOf({&w.q_a_norm, &w.kv_a_norm});
  if (!w.q_a_norm.empty()) bytes += LinearBytesOf({&w.q_a});
  if (w.indexer) {
    bytes += LinearBytesOf({&w.indexer->wq_b, &w.indexer->wk, &w.indexer->weights_proj}) +
             FloatBytesOf({&w.indexer->k_norm_weight, &w.indexer->k_norm_bias});
  }
  return bytes;
}

}  // namespace

absl::Status PlanAttentionWeights(const ModelConfig& config, int layer, const RankShare& share,
                                  LinearLoads& loads, AttentionWeights& out) {
  return std::visit(
      [&](const auto& shape) { return PlanWeights(shape, config, layer, share, loads, out); },
      config.attention);
}

size_t ResidentBytes(const AttentionWeights& weights) {
  return std::visit([](const auto& kind) { return BytesOf(kind); }, weights);
}

}  // namespace sheaf

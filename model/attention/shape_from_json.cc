#include "model/attention/shape_from_json.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

using nlohmann::json;

constexpr int kMaxHeads = 1 << 14;
constexpr int kMaxHeadDim = 1 << 13;
constexpr int kMaxRank = 1 << 16;
constexpr int kMaxTopk = 1 << 30;
constexpr int kDefaultTopk = 2048;  // of transformers; no tensor shows it

absl::Status Invalid(const JsonObject& object, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s", object.source(), what));
}

// Whether the layer has an indexer, said as a word or a letter.
absl::StatusOr<bool> IsFull(const JsonObject& object, const char* key, int layer,
                            std::string_view kind) {
  if (kind == "full" || kind == "F") return true;
  if (kind == "shared" || kind == "S") {
    if (layer > 0) return false;
    return Invalid(object, absl::StrFormat("%s: layer 0: wanted full (no layer before it has a "
                                           "choice to share), got shared",
                                           key));
  }
  return absl::UnimplementedError(absl::StrFormat("%s: %s: layer %d: wanted full or shared, got %s",
                                                  object.source(), key, layer,
                                                  std::string(kind.substr(0, 60))));
}

absl::StatusOr<std::vector<bool>> ReadIndexerTypes(const JsonObject& object, int num_layers) {
  std::vector<bool> is_full(static_cast<size_t>(num_layers), true);
  const json* list = nullptr;
  const char* key = nullptr;
  for (const char* name : {"indexer_types", "index_topk_pattern"}) {
    if (list == nullptr) {
      list = object.Find({name});
      key = name;
    }
  }
  if (list != nullptr) {
    const bool letters = list->is_string();
    const size_t length = letters ? list->get_ref<const std::string&>().size() : list->size();
    if ((!letters && !list->is_array()) || length < static_cast<size_t>(num_layers)) {
      return object.Error(key, absl::StrFormat("one entry for each of %d layers", num_layers),
                          *list);
    }
    for (int layer = 0; layer < num_layers; ++layer) {
      const size_t at = static_cast<size_t>(layer);
      const json& entry = letters ? *list : (*list)[at];
      if (!entry.is_string()) return object.Error(key, "strings", *list);
      std::string_view kind = entry.get_ref<const std::string&>();
      if (letters) kind = kind.substr(at, 1);
      SHEAF_ASSIGN_OR_RETURN(is_full[at], IsFull(object, key, layer, kind));
    }
    return is_full;
  }
  int freq = 1, offset = 2;
  SHEAF_RETURN_IF_ERROR(object.Int({"index_topk_freq"}, 0, 1 << 20, freq));
  SHEAF_RETURN_IF_ERROR(object.Int({"index_skip_topk_offset"}, 0, 1 << 20, offset));
  for (int layer = 0; layer < num_layers; ++layer) {
    is_full[static_cast<size_t>(layer)] =
        layer == 0 || std::max(layer - offset + 1, 0) % std::max(freq, 1) == 0;
  }
  return is_full;
}

absl::StatusOr<IndexerShape> ReadIndexer(const JsonObject& object, const ModelDimensions& model,
                                         int rope_dim) {
  IndexerShape shape;
  shape.topk = kDefaultTopk;
  SHEAF_RETURN_IF_ERROR(object.Int({"index_topk"}, 1, kMaxTopk, shape.topk));
  // More than there are positions is all of them.
  shape.topk = std::min(shape.topk, model.max_position_embeddings);
  SHEAF_RETURN_IF_ERROR(object.Int({"index_n_heads"}, 1, kMaxHeads, shape.num_heads, true));
  SHEAF_RETURN_IF_ERROR(
      object.Int({"index_head_dim"}, rope_dim, kMaxHeadDim, shape.head_dim, true));
  // Absent means interleaved for this model type; DeepSeek's files, which mean the other thing,
  // have another one.
  SHEAF_RETURN_IF_ERROR(object.Bool({"indexer_rope_interleave"}, shape.rope_interleave));
  SHEAF_ASSIGN_OR_RETURN(shape.is_full, ReadIndexerTypes(object, model.num_layers));
  return shape;
}

}  // namespace

absl::StatusOr<GroupedQueryShape> ReadGroupedQueryShape(const JsonObject& object,
                                                        const ModelDimensions& model,
                                                        const ModelFamily& family,
                                                        const RopeConfig& rope) {
  GroupedQueryShape shape;
  shape.num_kv_heads = family.num_kv_heads > 0 ? family.num_kv_heads : model.num_heads;
  SHEAF_RETURN_IF_ERROR(object.Int({"num_key_value_heads"}, 1, kMaxHeads, shape.num_kv_heads));
  if (model.num_heads % shape.num_kv_heads != 0) {
    return Invalid(
        object,
        absl::StrFormat("num_key_value_heads: wanted a divisor of num_attention_heads %d, got %d",
                        model.num_heads, shape.num_kv_heads));
  }
  shape.head_dim = model.hidden_size / model.num_heads;
  SHEAF_RETURN_IF_ERROR(object.Int({"head_dim"}, 1, kMaxHeadDim, shape.head_dim));
  if (shape.head_dim < 1 || shape.head_dim > kMaxHeadDim) {
    return Invalid(object, "head_dim: missing");
  }
  SHEAF_RETURN_IF_ERROR(object.Bool({"attention_bias"}, shape.bias));
  SHEAF_RETURN_IF_ERROR(object.Bool({"use_qk_norm"}, shape.qk_norm));
  shape.rotary_dim = static_cast<int>(shape.head_dim * rope.partial_rotary);  // as Python's int
  if (shape.rotary_dim % 2 != 0) {
    return Invalid(
        object,
        absl::StrFormat(
            "partial_rotary_factor %g of head_dim %d: wanted an even number of dimensions, got %d",
            rope.partial_rotary, shape.head_dim, shape.rotary_dim));
  }
  return shape;
}

absl::StatusOr<LatentShape> ReadLatentShape(const JsonObject& object, const ModelDimensions& model,
                                            const ModelFamily& family, const RopeConfig& rope) {
  const bool required = true;
  const bool sparse = family.attention == AttentionKind::kSparseLatent;
  LatentShape shape;
  // Without a rank (null, not absent) queries are projected at once. An indexer reads the latent.
  const bool direct = !sparse && object.Has("q_lora_rank");
  SHEAF_RETURN_IF_ERROR(object.Int({"q_lora_rank"}, 1, kMaxRank, shape.q_lora_rank, !direct));
  SHEAF_RETURN_IF_ERROR(object.Int({"kv_lora_rank"}, 1, kMaxRank, shape.kv_lora_rank, required));
  SHEAF_RETURN_IF_ERROR(object.Int({"qk_nope_head_dim"}, 1, kMaxHeadDim, shape.nope_dim, required));
  SHEAF_RETURN_IF_ERROR(object.Int({"qk_rope_head_dim"}, 2, kMaxHeadDim, shape.rope_dim, required));
  if (shape.rope_dim % 2 != 0) {
    return Invalid(
        object, absl::StrFormat("qk_rope_head_dim: wanted an even number, got %d", shape.rope_dim));
  }
  SHEAF_RETURN_IF_ERROR(object.Int({"v_head_dim"}, 1, kMaxHeadDim, shape.v_dim, required));
  SHEAF_RETURN_IF_ERROR(object.Bool({"rope_interleave"}, shape.rope_interleave));
  SHEAF_RETURN_IF_ERROR(object.Bool({"attention_bias"}, shape.bias));
  shape.norm_eps = model.rms_norm_eps;
  if (rope.partial_rotary != 1.0) {
    return absl::UnimplementedError(absl::StrFormat("%s: partial_rotary_factor: wanted 1, got %g",
                                                    object.source(), rope.partial_rotary));
  }
  shape.score_factor = static_cast<float>(rope.score_factor);
  shape.indexer.is_full.assign(static_cast<size_t>(model.num_layers), false);
  if (sparse) {
    SHEAF_ASSIGN_OR_RETURN(shape.indexer, ReadIndexer(object, model, shape.rope_dim));
  }
  return shape;
}

}  // namespace sheaf

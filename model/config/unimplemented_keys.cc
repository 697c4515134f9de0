#include "model/config/unimplemented_keys.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

using nlohmann::json;

absl::Status Unimplemented(const JsonObject& object, std::string_view key, std::string_view wanted,
                           const json& got) {
  return absl::UnimplementedError(object.Error(key, wanted, got).message());
}

absl::Status WantOneOf(const JsonObject& object, const char* key,
                       std::initializer_list<std::string_view> words) {
  const json* const value = object.Find({key});
  if (value == nullptr) return absl::OkStatus();
  if (value->is_string() &&
      std::find(words.begin(), words.end(), value->get_ref<const std::string&>()) != words.end()) {
    return absl::OkStatus();
  }
  return Unimplemented(object, key, *words.begin(), *value);
}

// Absent, null and `neutral` change nothing; false is as good as 0.
absl::Status WantNumber(const JsonObject& object, const char* key, double neutral) {
  const json* const value = object.Find({key});
  if (value == nullptr) return absl::OkStatus();
  std::optional<double> number = AsNumber(*value);
  if (value->is_boolean()) number = value->get<bool>() ? 1.0 : 0.0;
  if (number == neutral) return absl::OkStatus();
  return Unimplemented(object, key, absl::StrFormat("%g", neutral), *value);
}

}  // namespace

absl::Status RefuseUnimplementedKeys(const JsonObject& object) {
  // "swish" is another name of silu.
  SHEAF_RETURN_IF_ERROR(WantOneOf(object, "hidden_act", {"silu", "swish"}));
  SHEAF_RETURN_IF_ERROR(WantOneOf(object, "scoring_func", {"sigmoid"}));
  SHEAF_RETURN_IF_ERROR(WantOneOf(object, "topk_method", {"noaux_tc"}));
  for (const char* key :
       {"moe_layer_freq", "embedding_multiplier", "residual_multiplier", "logits_scaling",
        "logit_scale", "rope_ratio"}) {
    SHEAF_RETURN_IF_ERROR(WantNumber(object, key, 1.0));
  }
  for (const char* key :
       {"scale_embeddings", "scale_embedding", "attn_logit_softcapping", "final_logit_softcapping",
        "attn_logit_softcap", "final_logit_softcap", "logits_soft_cap", "attention_chunk_size",
        "attention_multiplier", "query_pre_attn_scalar", "clip_qkv", "swiglu_limit",
        "nope_layer_interval", "no_rope_layer_interval", "zero_expert_num"}) {
    SHEAF_RETURN_IF_ERROR(WantNumber(object, key, 0.0));
  }
  // By layer, 0 for those without rotation.
  if (const json* const rotated = object.Find({"no_rope_layers"}); rotated != nullptr) {
    for (const json& layer : *rotated) {
      if (layer != 1) return Unimplemented(object, "no_rope_layers", "1 for every layer", *rotated);
    }
  }
  const json* const use_window = object.Find({"use_sliding_window"});
  if (use_window != nullptr && *use_window == false) return absl::OkStatus();
  return WantNumber(object, "sliding_window", 0.0);
}

}  // namespace sheaf

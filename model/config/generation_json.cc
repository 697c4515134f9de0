#include "model/config/generation_json.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

using nlohmann::json;

constexpr const char* kEndKey = "eos_token_id";
constexpr const char* kPadKey = "pad_token_id";

// An id or a list of ids; -1 and null stand for none.
absl::Status AddEnds(const JsonObject& object, ModelConfig& config) {
  const json* const value = object.Find({kEndKey});
  if (value == nullptr) return absl::OkStatus();
  const json list = value->is_array() ? *value : json::array({*value});
  for (const json& entry : list) {
    if (entry.is_null()) continue;
    const std::optional<int64_t> id = AsInteger(entry);
    if (id == -1) continue;
    if (!id || *id < 0 || *id >= config.vocab_size) {
      return object.Error(kEndKey, absl::StrFormat("token ids in 0..%d", config.vocab_size - 1),
                          *value);
    }
    const TokenId token = static_cast<TokenId>(*id);
    auto& ends = config.eos_token_ids;
    if (std::find(ends.begin(), ends.end(), token) == ends.end()) ends.push_back(token);
  }
  return absl::OkStatus();
}

absl::Status ReadFloat(const JsonObject& object, const char* key, double low, double high,
                       std::optional<float>& out) {
  if (object.Find({key}) == nullptr) return absl::OkStatus();
  double value = 0;
  SHEAF_RETURN_IF_ERROR(object.Number({key}, low, high, value));
  out = static_cast<float>(value);
  return absl::OkStatus();
}

absl::Status ReadInteger(const JsonObject& object, const char* key, int low,
                         std::optional<int32_t>& out) {
  if (object.Find({key}) == nullptr) return absl::OkStatus();
  int value = 0;
  SHEAF_RETURN_IF_ERROR(object.Int({key}, low, INT32_MAX, value));
  out = value;
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadSpecialTokens(const JsonObject& object, ModelConfig& config) {
  SHEAF_RETURN_IF_ERROR(AddEnds(object, config));
  const json* const pad = object.Find({kPadKey});
  if (pad == nullptr) return absl::OkStatus();
  const std::optional<int64_t> id = AsInteger(*pad);
  if (id && *id >= 0 && *id < config.vocab_size) {
    config.pad_token_id = static_cast<TokenId>(*id);
  } else {
    config.remarks.emplace_back(
        object.Error(kPadKey, absl::StrFormat("a token id in 0..%d", config.vocab_size - 1), *pad)
            .message());
  }
  return absl::OkStatus();
}

absl::Status ReadGenerationConfig(const JsonObject& object, ModelConfig& config) {
  SHEAF_RETURN_IF_ERROR(AddEnds(object, config));
  GenerationDefaults& defaults = config.generation;
  SHEAF_RETURN_IF_ERROR(ReadFloat(object, "temperature", 0.0, 1e6, defaults.temperature));
  SHEAF_RETURN_IF_ERROR(ReadFloat(object, "top_p", 0.0, 1.0, defaults.top_p));
  SHEAF_RETURN_IF_ERROR(ReadFloat(object, "min_p", 0.0, 1.0, defaults.min_p));
  SHEAF_RETURN_IF_ERROR(
      ReadFloat(object, "repetition_penalty", 1e-6, 1e6, defaults.repetition_penalty));
  SHEAF_RETURN_IF_ERROR(ReadInteger(object, "top_k", -1, defaults.top_k));
  SHEAF_RETURN_IF_ERROR(ReadInteger(object, "max_new_tokens", 1, defaults.max_new_tokens));
  bool sample = true;
  SHEAF_RETURN_IF_ERROR(object.Bool({"do_sample"}, sample));
  if (sample) return absl::OkStatus();
  defaults.temperature = 0.0f;
  config.remarks.push_back(
      absl::StrFormat("%s: do_sample is false: requests that set no temperature are answered "
                      "greedily",
                      object.source()));
  return absl::OkStatus();
}

}  // namespace sheaf

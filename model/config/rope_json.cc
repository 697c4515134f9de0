#include "model/config/rope_json.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/config/layer_types.h"

namespace sheaf {
namespace {

using nlohmann::json;

constexpr double kDefaultTheta = 10000.0;
constexpr double kMaxTheta = 1e12;
constexpr int kMaxPositions = 1 << 30;
constexpr size_t kMaxShown = 60;  // of a text from outside
constexpr std::array<const char*, 2> kObjects = {"rope_scaling", "rope_parameters"};
// Of any kind of scaling.
constexpr std::array<std::string_view, 15> kKeys = {
    "rope_type", "type", "rope_theta", "partial_rotary_factor", "factor",
    "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
    "mscale_all_dim", "truncate", "short_factor", "long_factor", "finetuned"};
// Keys outside the objects that sound like rotary ones and are read, here or elsewhere.
constexpr std::array<std::string_view, 8> kOuterKeys = {
    "rope_theta", "partial_rotary_factor", "rope_scaling", "rope_parameters", "rope_interleave",
    "indexer_rope_interleave", "qk_rope_head_dim", "rope_ratio"};

template <size_t n>
bool Contains(const std::array<std::string_view, n>& keys, std::string_view key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

bool SoundsRotary(std::string key) {
  for (char& c : key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const char* word : {"rope", "rotary", "theta"}) {
    if (key.find(word) != std::string::npos) return true;
  }
  return false;
}

// The one object that is meant, of an object of them by layer type; the object itself otherwise.
absl::StatusOr<json> Flattened(const JsonObject& object, const char* key, const json& value) {
  json flat = json::object();
  std::vector<std::pair<std::string, const json*>> nested;
  const std::set<std::string> used = LayerTypesUsed(object);
  for (const auto& [name, entry] : value.items()) {
    if (!entry.is_object()) {
      if (!entry.is_null()) flat[name] = entry;
    } else if (used.empty() || used.contains(CurrentLayerType(name))) {
      nested.emplace_back(name, &entry);
    }
  }
  bool any_nested = false;
  for (const auto& entry : value) any_nested = any_nested || entry.is_object();
  if (!any_nested) return flat;
  if (nested.empty()) {
    return object.Error(key, "parameters of the layer types that layer_types has", value);
  }
  for (const auto& [name, entry] : nested) {
    if (*entry != *nested.front().second) {
      return absl::UnimplementedError(
          object.Error(key, "the same parameters for every layer type", value).message());
    }
  }
  for (const auto& [name, entry] : nested.front().second->items()) {
    if (entry.is_null()) continue;
    if (flat.contains(name) && flat[name] != entry) {
      return object.Error(absl::StrFormat("%s: %s: %s", key, nested.front().first, name),
                          "the value beside it, " + flat[name].dump().substr(0, kMaxShown), entry);
    }
    flat[name] = entry;
  }
  return flat;
}

// rope_scaling and rope_parameters as one object.
absl::StatusOr<json> Merged(const JsonObject& object) {
  json merged = json::object();
  for (const char* key : kObjects) {
    const json* const value = object.Find({key});
    if (value == nullptr) continue;
    if (!value->is_object()) return object.Error(key, "an object", *value);
    SHEAF_ASSIGN_OR_RETURN(const json flat, Flattened(object, key, *value));
    for (const auto& [name, entry] : flat.items()) {
      if (merged.contains(name) && merged[name] != entry) {
        return object.Error(absl::StrFormat("%s: %s", key, name),
                            "that of rope_scaling, " + merged[name].dump().substr(0, kMaxShown),
                            entry);
      }
      merged[name] = entry;
    }
  }
  return merged;
}

// A rope_theta under another name would be passed over.
absl::Status CheckSpelling(const JsonObject& object, const JsonObject& inner, bool has_theta,
                           std::vector<std::string>& remarks) {
  const auto check = [&](const std::string& long_key, const json& value) -> absl::Status {
    const std::string key = long_key.substr(0, kMaxShown);
    if (!has_theta) return object.Error(key, "rope_theta, which is nowhere", value);
    remarks.push_back(absl::StrFormat("%s: %s is not known and not used", object.source(), key));
    return absl::OkStatus();
  };
  for (const auto& [key, value] : inner.json().items()) {
    if (Contains(kKeys, key)) continue;
    if (key.rfind("mrope", 0) == 0) {
      return absl::UnimplementedError(
          object.Error("rope_parameters: " + key.substr(0, kMaxShown), "none", value).message());
    }
    SHEAF_RETURN_IF_ERROR(check("rope_parameters: " + key, value));
  }
  for (const auto& [key, value] : object.json().items()) {
    if (value.is_null() || !SoundsRotary(key) || Contains(kOuterKeys, key)) continue;
    SHEAF_RETURN_IF_ERROR(check(key, value));
  }
  return absl::OkStatus();
}

absl::Status ReadType(const JsonObject& object, const JsonObject& inner,
                      kernels::RopeScaling& scaling) {
  std::string type;
  SHEAF_RETURN_IF_ERROR(inner.String({"rope_type", "type"}, type));
  if (type.empty()) {
    // A factor without a type asks for something that nobody can name.
    if (const json* const factor = inner.Find({"factor"}); factor != nullptr) {
      return object.Error("rope_parameters: factor", "rope_type beside it", *factor);
    }
    type = "default";
  }
  if (type == "default") return absl::OkStatus();
  if (type == "linear") {
    scaling = kernels::RopeScaling::kLinear;
  } else if (type == "yarn") {
    scaling = kernels::RopeScaling::kYarn;
  } else {
    const bool old_name = object.Find({kObjects[0]}) != nullptr;
    return absl::UnimplementedError(
        absl::StrFormat("%s: %s: rope_type: wanted default, linear or yarn, got %s",
                        object.source(), kObjects[old_name ? 0 : 1], type.substr(0, kMaxShown)));
  }
  return absl::OkStatus();
}

// 0 and null mean that it is not there.
absl::Status ReadMscale(const JsonObject& inner, const char* key, std::optional<double>& out) {
  double value = 0;
  SHEAF_RETURN_IF_ERROR(inner.Number({key}, 0.0, 1e3, value));
  if (value != 0) out = value;
  return absl::OkStatus();
}

absl::Status ReadScaling(const JsonObject& object, const JsonObject& inner, int max_positions,
                         RopeConfig& config) {
  kernels::RopeParameters& rope = config.rope;
  const bool yarn = rope.scaling == kernels::RopeScaling::kYarn;
  rope.original_positions = max_positions;
  SHEAF_RETURN_IF_ERROR(inner.Int({"original_max_position_embeddings"}, 1, kMaxPositions,
                                  rope.original_positions));
  SHEAF_RETURN_IF_ERROR(object.Int({"original_max_position_embeddings"}, 1, kMaxPositions,
                                   rope.original_positions));
  const double ratio = static_cast<double>(max_positions) / rope.original_positions;
  if (inner.Find({"factor"}) != nullptr) {
    SHEAF_RETURN_IF_ERROR(inner.Number({"factor"}, 1.0, 1e6, rope.factor));
    if (yarn && ratio != 1.0 && ratio != rope.factor) {
      config.remarks.push_back(absl::StrFormat(
          "%s: rope_parameters: factor %g is used, but max_position_embeddings %d is %g times "
          "original_max_position_embeddings",
          object.source(), rope.factor, max_positions, ratio));
    }
  } else if (yarn && ratio > 1.0) {
    rope.factor = ratio;
  } else {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: rope_parameters: factor: missing", object.source()));
  }
  std::optional<double> mscale, mscale_all_dim;
  SHEAF_RETURN_IF_ERROR(ReadMscale(inner, "mscale", mscale));
  SHEAF_RETURN_IF_ERROR(ReadMscale(inner, "mscale_all_dim", mscale_all_dim));
  if (mscale_all_dim) {
    const double of_all = kernels::YarnMagnitude(rope.factor, *mscale_all_dim);
    config.score_factor = of_all * of_all;
  }
  if (!yarn) return absl::OkStatus();
  if (inner.Find({"attention_factor"}) != nullptr) {
    SHEAF_RETURN_IF_ERROR(inner.Number({"attention_factor"}, 1e-6, 1e3, rope.magnitude));
  } else if (mscale && mscale_all_dim) {
    rope.magnitude = kernels::YarnMagnitude(rope.factor, *mscale) /
                     kernels::YarnMagnitude(rope.factor, *mscale_all_dim);
  } else {
    rope.magnitude = kernels::YarnMagnitude(rope.factor, 1.0);
  }
  // 0 stands for the default.
  const auto beta = [&](const char* key, double& out) -> absl::Status {
    std::optional<double> value;
    SHEAF_RETURN_IF_ERROR(ReadMscale(inner, key, value));
    out = value.value_or(out);
    return absl::OkStatus();
  };
  SHEAF_RETURN_IF_ERROR(beta("beta_fast", rope.beta_fast));
  SHEAF_RETURN_IF_ERROR(beta("beta_slow", rope.beta_slow));
  if (rope.beta_fast < rope.beta_slow || rope.theta <= 1.0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: rope_parameters: beta_fast %g, beta_slow %g, rope_theta %g: wanted beta_fast at least "
        "beta_slow and rope_theta above 1",
        object.source(), rope.beta_fast, rope.beta_slow, rope.theta));
  }
  return inner.Bool({"truncate"}, rope.truncate);
}

}  // namespace

absl::StatusOr<RopeConfig> ReadRope(const JsonObject& object, double default_partial_rotary,
                                    int max_position_embeddings) {
  RopeConfig config;
  config.partial_rotary = default_partial_rotary;
  SHEAF_ASSIGN_OR_RETURN(const json merged, Merged(object));
  const JsonObject inner(merged, object.source());
  bool has_theta = false;
  config.rope.theta = kDefaultTheta;
  for (const JsonObject* const from : {&object, &inner}) {
    has_theta = has_theta || from->Find({"rope_theta"}) != nullptr;
    SHEAF_RETURN_IF_ERROR(from->Number({"rope_theta"}, 1.0, kMaxTheta, config.rope.theta));
    SHEAF_RETURN_IF_ERROR(
        from->Number({"partial_rotary_factor"}, 0.0, 1.0, config.partial_rotary));
  }
  SHEAF_RETURN_IF_ERROR(ReadType(object, inner, config.rope.scaling));
  SHEAF_RETURN_IF_ERROR(CheckSpelling(object, inner, has_theta, config.remarks));
  if (!has_theta) {
    config.remarks.push_back(absl::StrFormat("%s: rope_theta is nowhere: %g, as in transformers",
                                             object.source(), kDefaultTheta));
  }
  if (config.rope.scaling != kernels::RopeScaling::kNone) {
    SHEAF_RETURN_IF_ERROR(ReadScaling(object, inner, max_position_embeddings, config));
  }
  return config;
}

}  // namespace sheaf

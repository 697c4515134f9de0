#include "model/quantization/rotations.h"

#include <string>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/quantization/lenient_json.h"

namespace sheaf {
namespace {

using Json = nlohmann::ordered_json;

absl::Status Online(std::string_view source, std::string_view key, std::string_view what) {
  return absl::UnimplementedError(absl::StrFormat(
      "%s: %s: wanted weights that need no rotation at run time, got %s", source, key, what));
}

bool IsEmpty(const Json& value) {
  return value.is_structured() ? value.empty() : value == Json("") || value == Json(false);
}

absl::Status CheckApply(const Json& apply, const std::string& key, std::string_view source) {
  const Json* const location = FindKey(apply, "location");
  if (location != nullptr && (*location == "weight_input" || *location == "weight_output"))
    return absl::OkStatus();
  const std::string got = location == nullptr ? std::string("missing") : ShortJson(*location);
  return Online(source, key, "location " + got);
}

absl::Status CheckTransforms(const Json& config, const std::string& key, std::string_view source) {
  if (IsEmpty(config)) return absl::OkStatus();
  const Json* const groups = FindKey(config, "config_groups");
  if (groups == nullptr || !groups->is_object()) return Online(source, key, ShortJson(config));
  for (const auto& [name, scheme] : groups->items()) {
    const std::string group = absl::StrFormat("%s.config_groups.%s", key, name.substr(0, 60));
    const Json* const applies = FindKey(scheme, "apply");
    if (applies == nullptr) continue;
    if (!applies->is_array()) return Online(source, group + ".apply", ShortJson(*applies));
    for (size_t i = 0; i < applies->size(); ++i) {
      SHEAF_RETURN_IF_ERROR(
          CheckApply((*applies)[i], absl::StrFormat("%s.apply[%d]", group, i), source));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSpinQuant(const Json& config, const std::string& key, std::string_view source) {
  if (IsEmpty(config)) return absl::OkStatus();
  if (!config.is_object()) return Online(source, key, ShortJson(config));
  const auto flag = [&](const char* name, bool absent) {
    const Json* const value = FindKey(config, name);
    return value == nullptr ? absent : LenientBool(*value).value_or(true);
  };
  if (flag("r1", true) && flag("online_r1_rotation", true)) {
    return Online(source, key, "r1 with online_r1_rotation (rotated inputs of Linears)");
  }
  if (flag("r3", false)) return Online(source, key, "r3 (rotated queries and keys)");
  if (flag("r4", false)) return Online(source, key, "r4 (rotated inputs of down_proj)");
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckNoOnlineRotation(const Json& object, std::string_view where,
                                   std::string_view source) {
  const std::string prefix(where);
  if (const Json* const config = FindKey(object, "transform_config")) {
    SHEAF_RETURN_IF_ERROR(CheckTransforms(*config, prefix + "transform_config", source));
  }
  if (const Json* const config = FindKey(object, "spinquant_config")) {
    SHEAF_RETURN_IF_ERROR(CheckSpinQuant(*config, prefix + "spinquant_config", source));
  }
  if (const Json* const config = FindKey(object, "rotation_config")) {
    const Json* const algorithm = FindKey(*config, "algorithm");
    if (algorithm != nullptr && *algorithm == "spinquant") {
      return CheckSpinQuant(*config, prefix + "rotation_config", source);
    }
    if (!IsEmpty(*config)) {
      return Online(source, prefix + "rotation_config",
                    absl::StrFormat("%s (rotated inputs of Linears)", ShortJson(*config)));
    }
  }
  return absl::OkStatus();
}

}  // namespace sheaf

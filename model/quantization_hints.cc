#include "model/quantization_hints.h"

#include "base/status.h"
#include "model/config_json.h"

namespace sheaf {
namespace {

constexpr int kMaxGroupSize = 1 << 20;

// compressed-tensors: the first group's weights; other groups differ in their targets, which
// tensors show anyway.
absl::Status ReadConfigGroups(const JsonObject& object, std::string_view source,
                              QuantizationHints& hints) {
  const nlohmann::json* const groups = object.Find({"config_groups"});
  if (groups == nullptr) return absl::OkStatus();
  if (!groups->is_object()) return object.Error("config_groups", "an object", *groups);
  for (const auto& group : *groups) {
    if (!group.is_object() || !group.contains("weights") || !group["weights"].is_object()) continue;
    const JsonObject weights(group["weights"], source);
    SHEAF_RETURN_IF_ERROR(weights.Int({"num_bits"}, 0, 64, hints.bits));
    SHEAF_RETURN_IF_ERROR(weights.Int({"group_size"}, -1, kMaxGroupSize, hints.group_size));
    SHEAF_RETURN_IF_ERROR(weights.Bool({"symmetric"}, hints.symmetric));
    std::string strategy;
    SHEAF_RETURN_IF_ERROR(weights.String({"strategy"}, strategy));
    if (strategy == "channel") hints.group_size = -1;
    if (const auto* order = weights.Find({"actorder"}); order != nullptr && order->is_string()) {
      hints.desc_act = *order == "group";
    }
    break;
  }
  return absl::OkStatus();
}

void AddStrings(const nlohmann::json* list, std::vector<std::string>& out) {
  if (list == nullptr || !list->is_array()) return;
  for (const auto& entry : *list) {
    if (entry.is_string()) out.push_back(entry.get<std::string>());
  }
}

bool IsRegex(const std::string& key) {
  return key.find_first_of("*+?^$()[]{}|\\") != std::string::npos;
}

void ReadUnquantized(const JsonObject& object, QuantizationHints& hints) {
  AddStrings(object.Find({"ignore"}), hints.unquantized);
  AddStrings(object.Find({"modules_to_not_convert"}), hints.unquantized);
  if (const auto* dynamic = object.Find({"dynamic"}); dynamic != nullptr && dynamic->is_object()) {
    for (const auto& [pattern, overrides] : dynamic->items()) {
      if (pattern.rfind("-:", 0) == 0) hints.unquantized.push_back("re:" + pattern.substr(2));
    }
  }
  if (const auto* extra = object.Find({"extra_config"}); extra != nullptr && extra->is_object()) {
    for (const auto& [name, overrides] : extra->items()) {
      if (!overrides.is_object() || !overrides.contains("bits")) continue;
      const auto& bits = overrides["bits"];
      if (!bits.is_number_integer() || bits.get<int64_t>() < 16) continue;
      hints.unquantized.push_back(IsRegex(name) ? "search:" + name : name);
    }
  }
}

}  // namespace

absl::StatusOr<QuantizationHints> ReadQuantizationHints(const nlohmann::json& quantization,
                                                        std::string_view source) {
  const JsonObject object(quantization, source);
  QuantizationHints hints;
  SHEAF_RETURN_IF_ERROR(object.String({"quant_method", "method"}, hints.method));
  SHEAF_RETURN_IF_ERROR(object.String({"checkpoint_format", "format"}, hints.checkpoint_format));
  SHEAF_RETURN_IF_ERROR(object.String({"packing_format"}, hints.packing_format));
  SHEAF_RETURN_IF_ERROR(object.Int({"bits", "w_bit"}, 0, 64, hints.bits));
  SHEAF_RETURN_IF_ERROR(
      object.Int({"group_size", "q_group_size"}, -1, kMaxGroupSize, hints.group_size));
  bool zero_point = false;
  SHEAF_RETURN_IF_ERROR(object.Bool({"zero_point"}, zero_point));
  hints.symmetric = !zero_point;
  SHEAF_RETURN_IF_ERROR(object.Bool({"sym"}, hints.symmetric));
  SHEAF_RETURN_IF_ERROR(object.Bool({"desc_act"}, hints.desc_act));
  SHEAF_RETURN_IF_ERROR(ReadConfigGroups(object, source, hints));
  ReadUnquantized(object, hints);
  return hints;
}

}  // namespace sheaf

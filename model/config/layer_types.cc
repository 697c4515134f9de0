#include "model/config/layer_types.h"

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

using nlohmann::json;

constexpr const char* kKey = "layer_types";
constexpr std::string_view kFull = "full_attention";
constexpr std::string_view kIndexed = "indexed_attention";

}  // namespace

std::string CurrentLayerType(std::string_view name) {
  if (name == "attention") return std::string(kFull);
  if (name == "deepseek_sparse_attention") return std::string(kIndexed);
  return std::string(name);
}

std::set<std::string> LayerTypesUsed(const JsonObject& object) {
  std::set<std::string> used;
  const json* const types = object.Find({kKey});
  if (types == nullptr || !types->is_array()) return used;
  for (const json& type : *types) {
    if (type.is_string()) used.insert(CurrentLayerType(type.get_ref<const std::string&>()));
  }
  return used;
}

absl::Status CheckLayerTypes(const JsonObject& object, AttentionKind attention, int num_layers) {
  const json* const types = object.Find({kKey});
  if (types == nullptr) return absl::OkStatus();
  if (!types->is_array() || types->size() < static_cast<size_t>(num_layers)) {
    return object.Error(kKey, absl::StrFormat("one entry a layer, %d", num_layers), *types);
  }
  const bool sparse = attention == AttentionKind::kSparseLatent;
  for (int layer = 0; layer < num_layers; ++layer) {
    const json& type = (*types)[static_cast<size_t>(layer)];
    const std::string name =
        type.is_string() ? CurrentLayerType(type.get_ref<const std::string&>()) : "";
    if (name == kFull || (sparse && name == kIndexed)) continue;
    return absl::UnimplementedError(
        object
            .Error(absl::StrFormat("%s: layer %d", kKey, layer),
                   absl::StrFormat("\"%s\"", sparse ? kIndexed : kFull), type)
            .message());
  }
  return absl::OkStatus();
}

}  // namespace sheaf

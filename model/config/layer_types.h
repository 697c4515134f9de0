#pragma once
// layer_types: the kind of attention of each layer, which newer writers put into config.json.
//
// Names changed over the years: "attention" became "full_attention", "deepseek_sparse_attention"
// became "indexed_attention". Older writers call every layer "full_attention".
// Threads    pure.

#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "model/config/model_family.h"
#include "model/config_json.h"

namespace sheaf {

// The newest name of the same kind.
std::string CurrentLayerType(std::string_view name);

// Of all layers, by their newest names; empty where the key is absent or holds no strings.
std::set<std::string> LayerTypesUsed(const JsonObject& object);

// kInvalidArgument for too short a list (entries beyond the last layer are of layers that predict
// further tokens), kUnimplemented for a kind that this family does
// not have, naming the layer.
absl::Status CheckLayerTypes(const JsonObject& object, AttentionKind attention, int num_layers);

}  // namespace sheaf

#pragma once
// Reads a quantization_config object, of whatever tool wrote it, into QuantizationHints.
//
// GPTQModel, AutoRound (native and exported), compressed-tensors and AutoAWQ spell the same facts
// differently; what is not said keeps its default. Numbers and booleans may be strings. A value
// that cannot be read is a remark: tensors decide what weights are. The order of keys counts, since
// of the expressions that match a module the first one holds.
//
// Threads    pure.
// Errors     kUnimplemented: a layout that nothing here reads, or a rotation of activations
//            (model/quantization/rotations.h). The message names file and key.

#include <string_view>

#include "absl/status/statusor.h"
#include "model/config.h"
#include "nlohmann/json.hpp"

namespace sheaf {

absl::StatusOr<QuantizationHints> ReadQuantizationHints(const nlohmann::ordered_json& quantization,
                                                        std::string_view source);

}  // namespace sheaf

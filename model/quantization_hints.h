#pragma once
// Reads a quantization_config object, of whatever tool wrote it, into QuantizationHints.
//
// GPTQModel, AutoRound (native and exported), compressed-tensors and AutoAWQ spell the same facts
// differently; what is not said keeps its default.
// Threads    pure.
// Errors     kInvalidArgument for a wrong type.

#include <string_view>

#include "absl/status/statusor.h"
#include "model/config.h"
#include "nlohmann/json.hpp"

namespace sheaf {

absl::StatusOr<QuantizationHints> ReadQuantizationHints(const nlohmann::json& quantization,
                                                        std::string_view source);

}  // namespace sheaf

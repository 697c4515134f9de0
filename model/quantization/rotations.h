#pragma once
// Rotations of activations that a config asks for at run time, which are not implemented: weights
// that were rotated for them mean nothing without.
//
//   transform_config  (compressed-tensors) an `apply` at another location than weight_input and
//                     weight_output, which are folded into the weights
//   rotation_config   (auto-round) any: its reader rotates the inputs of Linears
//   spinquant_config  (auto-round) r1 unless online_r1_rotation is false, r3, r4
//
// Threads    pure.
// Errors     kUnimplemented naming file, key and rotation.

#include <string_view>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace sheaf {

// `object`: a quantization_config or the whole config.json; `where` begins the keys in messages:
// "quantization_config." or "".
absl::Status CheckNoOnlineRotation(const nlohmann::ordered_json& object, std::string_view where,
                                   std::string_view source);

}  // namespace sheaf

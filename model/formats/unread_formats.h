#pragma once
// Names the weight formats that this program knows of and does not read, so that a refusal says
// what a file holds instead of which tensor it lacks.
//
// Threads    pure.
// Errors     kUnimplemented naming file, tensor and format; OK where the module's tensors look like
//            none of them.
// Cost       a few look-ups of names.

#include <string>

#include "absl/status/status.h"
#include "model/checkpoint.h"

namespace sheaf {

// By the tensors PREFIX.SUFFIX of a Linear.
absl::Status RefuseUnreadLinear(const Checkpoint& checkpoint, const std::string& prefix);

// By the tensors of a layer's fused experts, NAME and NAME + suffix: "...mlp.experts.gate_up_proj".
absl::Status RefuseUnreadFused(const Checkpoint& checkpoint, const std::string& name);

}  // namespace sheaf

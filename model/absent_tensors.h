#pragma once
// Whether the model can do without the tensors that its index names and the directory lacks.
//
// Layers beyond num_hidden_layers predict further tokens (MTP) and are not served: writers often
// drop their file and leave its entries in the index.
//
// Threads    pure.
// Errors     kNotFound naming the missing shard, the index and a tensor; kInvalidArgument where the
//            shard is there without the tensor.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/config.h"

namespace sheaf {

// Remarks on what is absent and not needed, one a shard.
absl::StatusOr<std::vector<std::string>> JudgeAbsentTensors(const Checkpoint& checkpoint,
                                                            const ModelConfig& config);

}  // namespace sheaf

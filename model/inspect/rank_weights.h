#pragma once
// What each attention rank would keep of a checkpoint's weights (model/rank_share.h), by the tensors' headers.
//
// Threads    pure. Nothing of the size of a tensor is read.
// Errors     those of planning a Linear (model/linear_plan.h): InspectTensors says them first.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/rank_share.h"

namespace sheaf {

// Bytes by rank: as they are stored, but kv_b_proj of latent attention, which is taken apart.
absl::StatusOr<std::vector<uint64_t>> RankWeightBytes(const Checkpoint& checkpoint,
                                                      const ModelConfig& config,
                                                      const std::vector<RankShare>& shares);

}  // namespace sheaf

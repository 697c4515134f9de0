#pragma once
// What each attention rank would keep of a checkpoint's weights (model/rank_share.h), by the
// tensors' headers and the zero points of kv_b_proj.
//
// Threads    one. Of tensors only zero points are read (model/quantization/zero_point_survey.h).
// Errors     those of planning a Linear (model/linear_plan.h): InspectTensors says them first.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/lm_head.h"
#include "model/rank_share.h"

namespace sheaf {

// Bytes: as they are stored, but kv_b_proj of latent attention, which is taken apart, and a head
// that becomes 8-bit integers.
struct RankWeights {
  uint64_t dense_layers = 0;    // all of them together
  uint64_t moe_layers = 0;      // without any experts
  uint64_t shared_experts = 0;  // of all layers
  uint64_t head = 0;
  uint64_t embedding = 0;
  uint64_t other = 0;  // norms

  uint64_t total() const {
    return dense_layers + moe_layers + shared_experts + head + embedding + other;
  }
};

// By rank.
absl::StatusOr<std::vector<RankWeights>> WeightsOfRanks(const Checkpoint& checkpoint,
                                                        const ModelConfig& config,
                                                        const std::vector<RankShare>& shares,
                                                        LmHeadDtype lm_head);

}  // namespace sheaf

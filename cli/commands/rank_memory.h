#pragma once
// What `sheaf inspect --tensor-parallel-size` says: the memory of each attention rank, and whether
// it fits.
//
// Threads    pure.
// Errors     kInvalidArgument: the model cannot be shared by so many, or the cache has no such
//            format.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/options/options.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/inspect/inspect.h"

namespace sheaf {

struct RankMemory {
  uint64_t weight_bytes = 0;
  uint64_t kv_cache_bytes = 0;  // of one sequence of the longest kind
  uint64_t scratch_bytes = 0;   // of a step of 2,048 tokens
  // Of worker r beside rank r, where there are as many workers as ranks; else 0.
  uint64_t expert_bytes = 0;

  uint64_t total() const { return weight_bytes + kv_cache_bytes + scratch_bytes + expert_bytes; }
};

struct RankMemoryPlan {
  int64_t tokens = 0;  // in the KV cache
  std::string kv_cache_dtype;
  uint64_t device_bytes = 0;  // 0: nobody asked
  std::vector<RankMemory> ranks;
};

absl::StatusOr<RankMemoryPlan> PlanRankMemory(const InspectOptions& options,
                                              const Checkpoint& checkpoint,
                                              const ModelConfig& config,
                                              const InspectReport& report);

// Lines for a reader, after a line of their own.
std::string RankMemoryText(const RankMemoryPlan& plan);
// `report_json` with the member attention_ranks.
std::string WithRanksJson(std::string_view report_json, const RankMemoryPlan& plan);

}  // namespace sheaf

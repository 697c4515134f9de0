#pragma once
// SliceLoader: from an assignment to experts in memory. CheckpointSliceLoader reads a checkpoint
// (in parallel, bytes asked for ahead), which it keeps open for a later assignment; what is loaded
// does not need it. Tests give their own.

#include <functional>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "exchange/expert_source.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/expert_slice.h"

namespace sheaf {

class LoadedSlice : public ExpertSource {
 public:
  virtual size_t num_experts() const = 0;  // (layer, expert) pairs
  virtual size_t resident_bytes() const = 0;
};

// Called on the worker's compute thread, with its pool; progress from any thread, one call at a
// time.
using SliceLoader = std::function<absl::StatusOr<std::unique_ptr<LoadedSlice>>(
    std::span<const LayerExpert> experts, ThreadPool& pool, const LoadProgress& progress)>;

SliceLoader CheckpointSliceLoader(std::shared_ptr<const Checkpoint> checkpoint,
                                  const ModelConfig& config);

}  // namespace sheaf

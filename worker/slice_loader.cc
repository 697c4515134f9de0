#include "worker/slice_loader.h"

#include <utility>

#include "base/status.h"

namespace sheaf {
namespace {

class CheckpointSlice final : public LoadedSlice {
 public:
  explicit CheckpointSlice(std::unique_ptr<ExpertSlice> slice) : slice_(std::move(slice)) {}
  const kernels::ExpertWeights* Find(LayerId layer, ExpertId expert) const override {
    return slice_->Find(layer, expert);
  }
  size_t num_experts() const override { return slice_->num_experts(); }
  size_t resident_bytes() const override { return slice_->resident_bytes(); }

 private:
  const std::unique_ptr<ExpertSlice> slice_;
};

}  // namespace

SliceLoader CheckpointSliceLoader(std::shared_ptr<const Checkpoint> checkpoint,
                                  const ModelConfig& config) {
  return [checkpoint = std::move(checkpoint), config](
             std::span<const LayerExpert> experts, ThreadPool& pool,
             const LoadProgress& progress) -> absl::StatusOr<std::unique_ptr<LoadedSlice>> {
    SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<ExpertSlice> slice,
                           ExpertSlice::Load(*checkpoint, config, experts, pool, progress));
    return std::make_unique<CheckpointSlice>(std::move(slice));
  };
}

}  // namespace sheaf

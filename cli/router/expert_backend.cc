#include "cli/router/expert_backend.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "base/status.h"
#include "cli/router/pool_backend.h"
#include "exchange/layer/local_expert_layer.h"
#include "model/expert_slice.h"
#include "worker/slice_experts.h"

namespace sheaf {
namespace {

// --workers 0.
class LocalBackend final : public ExpertBackend {
 public:
  LocalBackend(std::unique_ptr<ExpertSlice> slice, const ExpertBackendParts& parts)
      : experts_(std::move(slice), parts.config),
        layer_(experts_, parts.config.num_layers, parts.config.num_experts, parts.pool,
               parts.options.int16_combine ? FrameElement::kInt16Groups : FrameElement::kFloat32) {}
  ExpertLayer& layer() override { return layer_; }
  absl::Status Ready() override { return absl::OkStatus(); }
  void SetStepIsMoot(std::function<bool()> moot) override { layer_.SetGiveUp(std::move(moot)); }

 private:
  const SliceExperts experts_;
  LocalExpertLayer layer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ExpertBackend>> ExpertBackend::Create(
    const ExpertBackendParts& parts) {
  const RouterOptions& options = parts.options;
  if (options.pool.workers > 0 || !options.coordinator.empty()) {
    return options.transport == TransportKind::kInProcess ? MakeInProcessBackend(parts)
                                                          : MakePoolBackend(parts);
  }
  SHEAF_ASSIGN_OR_RETURN(
      std::unique_ptr<ExpertSlice> slice,
      ExpertSlice::Load(*parts.checkpoint, parts.config, AllExperts(parts.config), parts.pool,
                        LoadProgress{}));
  spdlog::info("{} experts in this process, {:.1f} MB", slice->num_experts(),
               static_cast<double>(slice->resident_bytes()) / 1e6);
  return std::make_unique<LocalBackend>(std::move(slice), parts);
}

}  // namespace sheaf

#include "worker/engine/cpu_engine.h"

#include "base/status.h"
#include "exchange/cpu_experts.h"

namespace sheaf {
namespace {

class CheckpointExpert final : public CpuExpert {
 public:
  explicit CheckpointExpert(ReadExpert expert) : expert_(std::move(expert)) {}
  const kernels::ExpertWeights& weights() const override { return expert_.weights; }
  size_t resident_bytes() const override { return expert_.resident_bytes; }

 private:
  const ReadExpert expert_;
};

}  // namespace

absl::StatusOr<HeldExpertPtr> CpuEngine::Load(const LayerExpert& pair, int lane) {
  SHEAF_ASSIGN_OR_RETURN(ReadExpert expert,
                         reader_->Read(pair, scratch_[static_cast<size_t>(lane)]));
  return std::make_shared<const CheckpointExpert>(std::move(expert));
}

std::unique_ptr<ExpertCompute> CpuEngine::NewCompute(ThreadPool& pool) {
  return std::make_unique<CpuExpertCompute>(pool);
}

}  // namespace sheaf

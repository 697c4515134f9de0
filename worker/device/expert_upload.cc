#include "worker/device/expert_upload.h"

#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/status.h"

namespace sheaf {

absl::StatusOr<std::unique_ptr<ExpertUpload>> ExpertUpload::Create(CudaDevice& device,
                                                                   DeviceExpertKernels& kernels,
                                                                   const DeviceMemoryPlan& plan,
                                                                   DeviceResources& resources) {
  const std::string what = "loading experts";
  std::unique_ptr<ExpertUpload> upload(new ExpertUpload(device, kernels, plan.piece_bytes));
  absl::MutexLock lock(&upload->mutex_);
  SHEAF_ASSIGN_OR_RETURN(upload->stream_, resources.NewStream(/*urgent=*/false, what));
  for (Slot& slot : upload->slots_) {
    SHEAF_ASSIGN_OR_RETURN(slot.pinned, resources.AllocatePinned(plan.piece_bytes, what));
    SHEAF_ASSIGN_OR_RETURN(slot.copied, resources.NewEvent(what));
  }
  return upload;
}

absl::Status ExpertUpload::Run(const DeviceExpertLayout& layout,
                               const kernels::ExpertWeights& weights, DeviceAddress at,
                               const std::string& what) {
  const std::vector<DeviceUploadPiece> pieces = kernels_.Pieces(layout, weights, piece_bytes_);
  absl::MutexLock lock(&mutex_);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const DeviceUploadPiece& piece = pieces[i];
    SHEAF_CHECK(piece.bytes <= piece_bytes_, "no piece is larger than was asked for");
    const Slot& slot = slots_[i % slots_.size()];
    if (i >= slots_.size()) SHEAF_CUDA_RETURN_IF_ERROR(device_, Synchronize(slot.copied), what);
    std::memcpy(slot.pinned, piece.host, piece.bytes);
    SHEAF_CUDA_RETURN_IF_ERROR(
        device_, CopyToDevice(at + piece.at, slot.pinned, piece.bytes, stream_), what);
    SHEAF_CUDA_RETURN_IF_ERROR(device_, Record(slot.copied, stream_), what);
    SHEAF_RETURN_IF_ERROR(device_.Check(kernels_.Arrived(piece, at, stream_), "Arrived", what));
  }
  SHEAF_CUDA_RETURN_IF_ERROR(device_, Synchronize(stream_), what);
  return device_.loss();
}

}  // namespace sheaf

#pragma once
// ExpertUpload: an expert's weights from the host's memory into the device's, piece by piece
// through pinned memory, on a stream of its own: while one piece travels and is brought in order
// the next one is staged.
//
// Memory     two pieces of the host's; no second copy of the expert.
// Threads    any; one expert at a time, the others wait.
// Ownership  borrows device, kernels and the resources that it was made from.
// Errors     CudaDevice's, naming the expert.

#include <array>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kernels/experts/expert_ffn.h"
#include "worker/device/cuda_device.h"
#include "worker/device/device_expert_kernels.h"
#include "worker/device/device_memory_plan.h"
#include "worker/device/device_resources.h"

namespace sheaf {

class ExpertUpload {
 public:
  static absl::StatusOr<std::unique_ptr<ExpertUpload>> Create(CudaDevice& device,
                                                              DeviceExpertKernels& kernels,
                                                              const DeviceMemoryPlan& plan,
                                                              DeviceResources& resources);

  // Returns when it is there. `what`: "layer 3 expert 7".
  absl::Status Run(const DeviceExpertLayout& layout, const kernels::ExpertWeights& weights,
                   DeviceAddress at, const std::string& what) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Slot {
    uint8_t* pinned = nullptr;
    CudaEvent copied = nullptr;
  };
  ExpertUpload(CudaDevice& device, DeviceExpertKernels& kernels, size_t piece_bytes)
      : device_(device), kernels_(kernels), piece_bytes_(piece_bytes) {}

  CudaDevice& device_;
  DeviceExpertKernels& kernels_;
  const size_t piece_bytes_;
  absl::Mutex mutex_;
  CudaStream stream_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::array<Slot, DeviceMemoryPlan::kParts> slots_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sheaf

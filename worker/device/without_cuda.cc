#include "worker/device/cuda_platform.h"

namespace sheaf {

absl::StatusOr<CudaPlatform> FindCuda() {
  return absl::FailedPreconditionError("this build of sheaf has no CUDA: wanted --device cpu");
}

}  // namespace sheaf

#pragma once
// CudaPlatform: what a program has of CUDA: the runtime's calls and the kernels that were built for
// it.
//
// FindCuda is defined by exactly one library, which CMake links to the program: one without CUDA
// (without_cuda.cc), one over the CUDA toolkit, or a fake of a test.
//
// Threads    any. Errors  FindCuda: kFailedPrecondition: this build has no CUDA.

#include <memory>

#include "absl/status/statusor.h"
#include "worker/device/cuda_runtime.h"
#include "worker/device/device_expert_kernels.h"

namespace sheaf {

struct CudaPlatform {
  std::unique_ptr<CudaRuntime> runtime;
  std::unique_ptr<DeviceExpertKernels> kernels;
};

using CudaFinder = absl::StatusOr<CudaPlatform> (*)();

absl::StatusOr<CudaPlatform> FindCuda();

}  // namespace sheaf

#pragma once
// The CudaRuntime of a build with CUDA: each call is the one of the libcudart that is linked.
//
// Contract   as worker/device/cuda_runtime.h. Not in a build without CUDA. It has not run on a GPU
//            yet.

#include <memory>

#include "worker/device/cuda_runtime.h"

namespace sheaf {

std::unique_ptr<CudaRuntime> MakeLinkedCudaRuntime();

}  // namespace sheaf

#include <cuda_runtime_api.h>

#include "worker/device/cuda_platform.h"
#include "worker/device/cudart/linked_cuda_runtime.h"
#include "worker/device/launched_expert_kernels.h"

namespace sheaf {
namespace {

// Of the calling thread's device.
CudaError ReadLimits(kernels::cuda::DeviceLimits& limits) {
  int device = 0, processors = 0, block_bytes = 0, processor_bytes = 0;
  cudaError_t error = cudaGetDevice(&device);
  const auto read = [&](int& value, cudaDeviceAttr attribute) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&value, attribute, device);
  };
  read(processors, cudaDevAttrMultiProcessorCount);
  read(block_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  read(processor_bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  limits.processors = processors;
  limits.block_shared_bytes = static_cast<size_t>(block_bytes);
  limits.processor_shared_bytes = static_cast<size_t>(processor_bytes);
  return static_cast<CudaError>(error);
}

}  // namespace

absl::StatusOr<CudaPlatform> FindCuda() {
  CudaPlatform platform;
  platform.runtime = MakeLinkedCudaRuntime();
  platform.kernels = std::make_unique<LaunchedExpertKernels>(
      ReadLimits, [](DeviceAddress at) { return reinterpret_cast<std::byte*>(at.value); });
  return platform;
}

}  // namespace sheaf

#pragma once
// kernels/cuda/launch.h under nvcc.

#include <cuda_runtime.h>

#include "kernels/cuda/launch_shape.h"

namespace sheaf::kernels::cuda {

template <typename... Parameters, typename... Arguments>
int LaunchKernel(void (*kernel)(Parameters...), const LaunchShape& shape, void* stream,
                 Arguments... arguments) {
  kernel<<<shape.blocks, shape.threads, shape.shared_bytes, static_cast<cudaStream_t>(stream)>>>(
      static_cast<Parameters>(arguments)...);
  return static_cast<int>(cudaGetLastError());
}

template <typename... Parameters>
int AllowSharedMemory(void (*kernel)(Parameters...), size_t bytes) {
  return static_cast<int>(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                                               static_cast<int>(bytes)));
}

inline int ReadDeviceSizes(DeviceSizes& sizes) {
  int device = 0, block = 0, processor = 0;
  cudaError_t error = cudaGetDevice(&device);
  const auto read = [&](int& value, cudaDeviceAttr attribute) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&value, attribute, device);
  };
  read(sizes.processors, cudaDevAttrMultiProcessorCount);
  read(block, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  read(processor, cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  sizes.block_shared_bytes = static_cast<size_t>(block);
  sizes.processor_shared_bytes = static_cast<size_t>(processor);
  return static_cast<int>(error);
}

}  // namespace sheaf::kernels::cuda

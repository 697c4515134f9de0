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

}  // namespace sheaf::kernels::cuda

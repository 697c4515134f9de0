#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

#include "kernels/experts/expert_ffn_cuda.h"
#include "tests/kernels/cuda/device_under_test.h"

namespace sheaf::kernels::cuda {
DeviceBytes::DeviceBytes(size_t bytes, int fill) {
  void* data = nullptr;
  if (cudaMallocManaged(&data, bytes == 0 ? 1 : bytes, cudaMemAttachGlobal) != cudaSuccess)
    std::abort();
  std::memset(data, fill, bytes);
  data_.reset(static_cast<std::byte*>(data));
}

DeviceBytes::DeviceBytes(const void* from, size_t bytes) : DeviceBytes(bytes) {
  if (bytes != 0) std::memcpy(data_.get(), from, bytes);
}

void DeviceBytes::Free::operator()(std::byte* data) const { cudaFree(data); }

const std::map<std::byte*, size_t>& DeviceMemory() {
  static const std::map<std::byte*, size_t> none;
  return none;
}

std::string MissingDevice() {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  if (devices == 0) return "no CUDA device";
  const int prepared = PrepareExpertKernels(LimitsOfDevice({}));
  return prepared == 0 ? "" : cudaGetErrorString(static_cast<cudaError_t>(prepared));
}

DeviceLimits LimitsOfDevice(const DeviceLimits& emulated) {
  DeviceLimits limits;
  return ReadDeviceLimits(limits) == 0 ? limits : emulated;
}

std::string FinishLaunches() {
  const cudaError_t error = cudaDeviceSynchronize();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

void EmulateWith(const emulation::Options&) {}

}  // namespace sheaf::kernels::cuda

#include "worker/device/device_resources.h"

#include "base/status.h"

namespace sheaf {

DeviceResources::~DeviceResources() {
  if (!device_.Use().ok()) return;
  for (auto give_back = give_back_.rbegin(); give_back != give_back_.rend(); ++give_back)
    (*give_back)(device_.runtime());
}

absl::StatusOr<DeviceAddress> DeviceResources::Allocate(uint64_t bytes,
                                                        const std::string& what_for) {
  DeviceAddress at;
  const CudaError error = device_.runtime().Allocate(bytes, at);
  SHEAF_RETURN_IF_ERROR(device_.CheckAllocation(error, "Allocate", bytes, what_for));
  give_back_.push_back([at](CudaRuntime& runtime) { runtime.Free(at); });
  return at;
}

absl::StatusOr<uint8_t*> DeviceResources::AllocatePinned(uint64_t bytes,
                                                         const std::string& what_for) {
  void* at = nullptr;
  const CudaError error = device_.runtime().AllocatePinned(bytes, at);
  SHEAF_RETURN_IF_ERROR(device_.CheckAllocation(error, "AllocatePinned", bytes, what_for));
  give_back_.push_back([at](CudaRuntime& runtime) { runtime.FreePinned(at); });
  return static_cast<uint8_t*>(at);
}

absl::StatusOr<CudaStream> DeviceResources::NewStream(bool urgent, const std::string& what_for) {
  CudaStream stream = nullptr;
  SHEAF_CUDA_RETURN_IF_ERROR(device_, CreateStream(urgent, stream), what_for);
  give_back_.push_back([stream](CudaRuntime& runtime) { runtime.DestroyStream(stream); });
  return stream;
}

absl::StatusOr<CudaEvent> DeviceResources::NewEvent(const std::string& what_for) {
  CudaEvent event = nullptr;
  SHEAF_CUDA_RETURN_IF_ERROR(device_, CreateEvent(event), what_for);
  give_back_.push_back([event](CudaRuntime& runtime) { runtime.DestroyEvent(event); });
  return event;
}

}  // namespace sheaf

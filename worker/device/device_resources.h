#pragma once
// DeviceResources: memory, streams and events of a device, given back all together, in the reverse
// order.
//
// Ownership  owns what it made; the device outlives it. Of a lost device nothing is given back: the
//            process ends.
// Threads    one. Errors  as CudaDevice::Check and CheckAllocation, naming what it was for.

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/device/cuda_device.h"

namespace sheaf {

class DeviceResources {
 public:
  explicit DeviceResources(CudaDevice& device) : device_(device) {}
  ~DeviceResources();
  DeviceResources(const DeviceResources&) = delete;
  DeviceResources& operator=(const DeviceResources&) = delete;

  absl::StatusOr<DeviceAddress> Allocate(uint64_t bytes, const std::string& what_for);
  absl::StatusOr<uint8_t*> AllocatePinned(uint64_t bytes, const std::string& what_for);
  absl::StatusOr<CudaStream> NewStream(bool urgent, const std::string& what_for);
  absl::StatusOr<CudaEvent> NewEvent(const std::string& what_for);

 private:
  CudaDevice& device_;
  std::vector<std::function<void(CudaRuntime&)>> give_back_;
};

}  // namespace sheaf

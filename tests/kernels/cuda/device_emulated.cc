#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels/cuda/emulation/launch_emulated.h"
#include "tests/kernels/cuda/device_under_test.h"

namespace sheaf::kernels::cuda {
namespace {

std::string& Fault() {
  static std::string fault;
  return fault;
}

std::map<std::byte*, size_t>& Memory() {
  static std::map<std::byte*, size_t> memory;
  return memory;
}

}  // namespace

DeviceBytes::DeviceBytes(size_t bytes, int fill) {
  void* data = nullptr;
  if (posix_memalign(&data, 256, bytes == 0 ? 1 : bytes) != 0) std::abort();
  std::memset(data, fill, bytes);
  data_.reset(static_cast<std::byte*>(data));
  Memory()[data_.get()] = bytes;
}

DeviceBytes::DeviceBytes(const void* from, size_t bytes) : DeviceBytes(bytes) {
  if (bytes != 0) std::memcpy(data_.get(), from, bytes);
}

void DeviceBytes::Free::operator()(std::byte* data) const {
  Memory().erase(data);
  std::free(data);
}

const std::map<std::byte*, size_t>& DeviceMemory() { return Memory(); }

std::string MissingDevice() { return ""; }

DeviceLimits LimitsOfDevice(const DeviceLimits& emulated) { return emulated; }

std::string FinishLaunches() { return std::exchange(Fault(), {}); }

void EmulateWith(const emulation::Options& options) {
  emulation::SetLauncher(
      [options](const LaunchShape& shape, void*, const std::function<void()>& kernel) {
        const absl::Status status = emulation::Run(options, shape, kernel);
        if (status.ok()) return 0;
        Fault() = std::string(status.message());
        return 719;
      });
}

}  // namespace sheaf::kernels::cuda

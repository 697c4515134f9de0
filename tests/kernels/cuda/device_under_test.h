#pragma once
// What the tests of CUDA experts run on: the emulator (device_emulated.cc) or this machine's GPU
// (device_gpu.cc). A program links one of them.
//
// Memory is seen by both sides: of the emulator the heap, in pieces of exactly the sizes asked for,
// so that AddressSanitizer sees their ends; of a GPU managed memory.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "kernels/cuda/emulation/emulator.h"
#include "kernels/linear/w4a16_cuda.h"

namespace sheaf::kernels::cuda {

// 256-byte aligned bytes with nothing after them.
class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes, int fill = 0xff);
  DeviceBytes(const void* from, size_t bytes);
  template <typename T = std::byte>
  T* as() const {
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Free> data_;
};

// All of it, by address. A GPU's is not listed.
const std::map<std::byte*, size_t>& DeviceMemory();

// Why there is no device; empty: there is one.
std::string MissingDevice();

// What launches should be chosen for; the emulator's are as given.
DeviceLimits LimitsOfDevice(const DeviceLimits& emulated);

// Waits for all launches. What has gone wrong in them since the last call; empty: nothing.
std::string FinishLaunches();

// How the emulator runs launches from now on; a GPU has its own ways.
void EmulateWith(const emulation::Options& options);

}  // namespace sheaf::kernels::cuda

#pragma once
// A batch of experts on an emulated device and by the reference: random weights of given formats, loaded as a worker would load
// them (packed bytes copied, tiles permuted on the device), planned, launched, compared.
//
// "Device" memory is heap memory of exactly the sizes asked for, so that AddressSanitizer sees their ends.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/emulation/emulator.h"
#include "kernels/experts/expert_ffn.h"
#include "kernels/experts/expert_ffn_cuda.h"
#include "tests/kernels/random_weights.h"

namespace sheaf::kernels::cuda {

// 16-byte aligned bytes with nothing after them.
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

struct ExpertFormat {
  IntegerOptions gate, up, down;  // n and k are set by the expert's size
  bool same_permutation = false;  // of gate and up, as files have it
};

ExpertFormat FormatOf(const IntegerOptions& all);

// One expert: on the host for the reference, on the "device" for the kernels.
class EmulatedExpert {
 public:
  EmulatedExpert(std::mt19937& random, int hidden, int intermediate, const ExpertFormat& format,
                 const DeviceLimits& limits);
  const ExpertWeights& host() const { return host_; }
  const DeviceExpert& device() const { return device_; }

 private:
  DeviceMatrix Load(const Linear& linear, const DeviceLimits& limits);

  std::unique_ptr<RandomLinear> gate_, up_, down_;
  std::vector<DeviceBytes> memory_;
  ExpertWeights host_;
  DeviceExpert device_;
};

struct BatchRun {
  ExpertBatchShape shape;
  DeviceLimits limits;
  bool sums_come_along = true;
  std::optional<PlanHead> launch_head;  // in place of the plan's own
};

// All memory of the "device", by address.
const std::map<std::byte*, size_t>& DeviceMemory();

// What the emulator found in the launches since the last call; empty: nothing.
std::string TakeFault();
// Launches run with these options from now on.
void EmulateWith(const emulation::Options& options);

// The outputs of the batch, job by job; empty and a test failure where a launch failed.
std::vector<float> RunOnDevice(const BatchRun& run, const QuantizedRows& x,
                               const std::vector<const EmulatedExpert*>& experts,
                               const std::vector<std::vector<int32_t>>& rows);

// The same by ref::RunExpert.
std::vector<float> RunOnHost(const QuantizedRows& x, int hidden,
                             const std::vector<const EmulatedExpert*>& experts,
                             const std::vector<std::vector<int32_t>>& rows);

}  // namespace sheaf::kernels::cuda

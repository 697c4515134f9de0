#pragma once
// A batch of experts on a device and by the reference: random weights of given formats, loaded as a
// worker would load them (packed bytes copied, tiles permuted on the device), planned, launched,
// compared. The device is the emulator or a GPU (tests/kernels/cuda/device_under_test.h).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "kernels/experts/expert_ffn.h"
#include "kernels/experts/expert_ffn_cuda.h"
#include "tests/kernels/cuda/device_under_test.h"
#include "tests/kernels/random_weights.h"

namespace sheaf::kernels::cuda {

struct ExpertFormat {
  IntegerOptions gate, up, down;  // n and k are set by the expert's size
  bool same_permutation = false;  // of gate and up, as files have it
};

ExpertFormat FormatOf(const IntegerOptions& all);

// One expert: on the host for the reference, on the "device" for the kernels.
class TestedExpert {
 public:
  TestedExpert(std::mt19937& random, int hidden, int intermediate, const ExpertFormat& format,
               const DeviceLimits& limits);
  const ExpertWeights& host() const { return host_; }
  const DeviceExpert& device() const { return device_; }

 private:
  std::unique_ptr<RandomLinear> gate_, up_, down_;
  std::unique_ptr<DeviceBytes> memory_;
  ExpertWeights host_;
  DeviceExpert device_;
};

struct BatchRun {
  ExpertBatchShape shape;
  DeviceLimits limits;
  bool sums_come_along = true;
  std::optional<PlanHead> launch_head;  // in place of the plan's own
};

// The outputs of the batch, job by job; empty and a test failure where a launch failed.
std::vector<float> RunOnDevice(const BatchRun& run, const QuantizedRows& x,
                               const std::vector<const TestedExpert*>& experts,
                               const std::vector<std::vector<int32_t>>& rows);

// The same by ref::RunExpert.
std::vector<float> RunOnHost(const QuantizedRows& x, int hidden,
                             const std::vector<const TestedExpert*>& experts,
                             const std::vector<std::vector<int32_t>>& rows);

}  // namespace sheaf::kernels::cuda

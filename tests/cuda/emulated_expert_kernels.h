#pragma once
// The CUDA kernels in the emulator, launched into the streams of a FakeCudaRuntime.
//
// Ownership  borrows the runtime. Launches of the whole process go to the runtime of the last call.

#include <memory>

#include "tests/cuda/fake_cuda_runtime.h"
#include "worker/device/launched_expert_kernels.h"

namespace sheaf::testing {

std::unique_ptr<DeviceExpertKernels> MakeEmulatedKernels(FakeCudaRuntime& runtime, uint64_t seed);

}  // namespace sheaf::testing

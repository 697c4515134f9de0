#include "tests/cuda/emulated_expert_kernels.h"

#include <string>
#include <utility>

#include "base/check.h"
#include "kernels/cuda/emulation/launch_emulated.h"

namespace sheaf::testing {

using kernels::cuda::LaunchShape;
namespace emulation = kernels::cuda::emulation;

std::unique_ptr<DeviceExpertKernels> MakeEmulatedKernels(FakeCudaRuntime& runtime, uint64_t seed) {
  emulation::Options options;
  options.seed = seed;
  emulation::SetLauncher(
      [&runtime, options](const LaunchShape& shape, void* stream, std::function<void()> kernel) {
        return static_cast<int>(runtime.Launch(
            static_cast<CudaStream>(stream), [options, shape, kernel = std::move(kernel)] {
              const absl::Status status = emulation::Run(options, shape, kernel);
              SHEAF_CHECK(status.ok(), std::string(status.message()).c_str());
            }));
      });
  return std::make_unique<LaunchedExpertKernels>(
      [](kernels::cuda::DeviceLimits& limits) {
        limits = {.processors = 3};
        return CudaError::kSuccess;
      },
      [&runtime](DeviceAddress at) { return runtime.SeenByKernels(at); });
}

}  // namespace sheaf::testing

// FindCuda for sheaf_with_fake_gpu: two fake GPUs of 64 MiB, or as the environment says:
//   SHEAF_FAKE_CUDA_DRIVER    version of the driver; 0 = none
//   SHEAF_FAKE_CUDA_DEVICES   how many GPUs there are
//   SHEAF_FAKE_CUDA_KERNELS   emulated: the CUDA kernels in their emulator, slow; else the CPU's
//   SHEAF_FAKE_CUDA_LOSE_AT   operation of a stream at which the GPU is lost, by an ECC error

#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "tests/cuda/emulated_expert_kernels.h"
#include "tests/cuda/fake_cuda_runtime.h"
#include "tests/cuda/reference_expert_kernels.h"
#include "worker/device/cuda_platform.h"

namespace sheaf {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace

absl::StatusOr<CudaPlatform> FindCuda() {
  testing::FakeCudaOptions options;
  options.seed = static_cast<uint64_t>(getpid());
  options.driver_version =
      static_cast<int>(FromEnvironment("SHEAF_FAKE_CUDA_DRIVER", 13000));
  options.devices = static_cast<int>(FromEnvironment("SHEAF_FAKE_CUDA_DEVICES", 2));
  options.lose_at = FromEnvironment("SHEAF_FAKE_CUDA_LOSE_AT", 0);
  auto runtime = std::make_unique<testing::FakeCudaRuntime>(options);
  CudaPlatform platform;
  const char* const kernels = std::getenv("SHEAF_FAKE_CUDA_KERNELS");
  if (kernels != nullptr && std::string(kernels) == "emulated") {
    platform.kernels = testing::MakeEmulatedKernels(*runtime, options.seed);
  } else {
    platform.kernels = std::make_unique<testing::ReferenceExpertKernels>(
        *runtime, testing::ReferenceKernelOptions{.fast = true});
  }
  platform.runtime = std::move(runtime);
  return platform;
}

}  // namespace sheaf

#pragma once
// What `sheaf devices` says: the GPUs that CUDA shows, each as a worker that is told to use it
// would find it, and the NCCL that it was asked about.
//
// Threads    main's; leaves it using the first usable GPU.
// Errors     none: what cannot be used is a refusal, in the words that a worker would end with.
// Cost       CUDA opens a context on each GPU: about a second and some hundred megabytes of its
//            memory, until the process ends.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cli/options/options.h"
#include "worker/device/cuda_platform.h"

namespace sheaf {

struct DeviceSurvey {
  struct Gpu {
    std::string name;  // "cuda:0 (NVIDIA H200)"
    CudaArchitecture architecture;
    uint64_t free_bytes = 0;
    uint64_t total_bytes = 0;
    absl::Status refusal;  // OK: a worker can use it
  };
  struct Nccl {
    std::string file;
    std::string version;  // "2.30.3"; empty: it was not loaded
    std::vector<std::string> features;
    bool made_id = false;
    double communicator_s = 0;  // of making one of one rank
    absl::Status refusal;       // OK: all of this was done
  };
  absl::Status no_cuda;  // OK: this build has CUDA, and there are drivers
  int driver_version = 0;   // as CudaRuntime has them
  int runtime_version = 0;
  std::vector<Gpu> gpus;
  std::optional<Nccl> nccl;  // none: nobody asked
};

DeviceSurvey SurveyDevices(const DevicesOptions& options, CudaFinder find_cuda);

// Lines for a reader.
std::string DeviceSurveyText(const DeviceSurvey& survey);
// OK: there is a GPU that can be used, and so can NCCL where it was asked for.
absl::Status Verdict(const DeviceSurvey& survey);

}  // namespace sheaf

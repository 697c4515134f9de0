#pragma once
// CudaDevice: one GPU that is ours to use: found to be usable when it is opened, and what its calls
// return made into statuses that name the device, the call and what it was for.
//
// A GPU does not recover from what goes wrong on it, nor does the process's context on it: but for
// want of memory when some is allocated, every error loses the device. The first one is kept, said
// once to who watches, and answers all that comes later; nothing more is asked of a lost device.
//
// Threads    any.
// Ownership  owns the runtime.
// Errors     Open: kFailedPrecondition: no driver, one that is too old, no device, an architecture
//            that no kernel was built for; kInvalidArgument: not that many devices. Check:
//            kUnavailable: the device is lost. CheckAllocation: also kResourceExhausted.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "worker/device/cuda_runtime.h"
#include "worker/engine/expert_engine.h"

namespace sheaf {

class CudaDevice {
 public:
  static absl::StatusOr<std::unique_ptr<CudaDevice>> Open(
      std::unique_ptr<CudaRuntime> runtime, int ordinal,
      std::span<const CudaArchitecture> architectures);

  CudaRuntime& runtime() { return *runtime_; }
  const std::string& name() const { return name_; }  // "cuda:0 (NVIDIA H200)"

  // For calls of this thread; OK also when it was told before.
  absl::Status Use();
  // `what_for`: "layer 3 expert 7", "start". Of a lost device: why it was lost.
  absl::Status Check(CudaError error, const char* call, const std::string& what_for)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The same for an allocation of so many bytes, which loses nothing when there is no memory for
  // it.
  absl::Status CheckAllocation(CudaError error, const char* call, uint64_t bytes,
                               const std::string& what_for);
  absl::Status loss() const ABSL_LOCKS_EXCLUDED(mutex_);  // OK: it is not lost

  // As ExpertEngine::WatchForLoss.
  void WatchForLoss(ExpertEngine::OnLost on_lost) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  CudaDevice(std::unique_ptr<CudaRuntime> runtime, int ordinal, std::string name)
      : runtime_(std::move(runtime)), ordinal_(ordinal), name_(std::move(name)) {}

  const std::unique_ptr<CudaRuntime> runtime_;
  const int ordinal_;
  const std::string name_;
  mutable absl::Mutex mutex_;
  absl::Status loss_ ABSL_GUARDED_BY(mutex_);
  ExpertEngine::OnLost on_lost_ ABSL_GUARDED_BY(mutex_);
};

// Passes on what a CUDA call says: SHEAF_CUDA_RETURN_IF_ERROR(device, Record(event, stream), "layer
// 3").
#define SHEAF_CUDA_RETURN_IF_ERROR(device, call, what_for)                                       \
  do {                                                                                           \
    const ::sheaf::CudaError sheaf_cuda_error = (device).runtime().call;                         \
    if (sheaf_cuda_error != ::sheaf::CudaError::kSuccess)                                        \
      return (device).Check(sheaf_cuda_error, #call, what_for);                                  \
  } while (false)

}  // namespace sheaf

#include "worker/device/cuda_device.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status.h"

namespace sheaf {
namespace {

std::string VersionText(int version) {
  return absl::StrFormat("%d.%d", version / 1000, version % 1000 / 10);
}

std::string ArchitectureText(const CudaArchitecture& architecture) {
  return absl::StrFormat("%d.%d", architecture.major, architecture.minor);
}

absl::Status AtStart(const CudaRuntime& runtime, int ordinal, const char* call, CudaError error) {
  return absl::FailedPreconditionError(absl::StrFormat(
      "cuda:%d: %s: %s (%d)", ordinal, call, runtime.TextOf(error), static_cast<int>(error)));
}

// "Record(side.event, stream)" -> "Record"
std::string NameOfCall(const std::string& call) { return call.substr(0, call.find('(')); }

}  // namespace

absl::StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::Open(
    std::unique_ptr<CudaRuntime> runtime, int ordinal,
    std::span<const CudaArchitecture> architectures) {
  const std::string device = absl::StrFormat("cuda:%d", ordinal);
  int version = 0;
  if (const CudaError error = runtime->DriverVersion(version); error != CudaError::kSuccess)
    return AtStart(*runtime, ordinal, "DriverVersion", error);
  if (version == 0)
    return absl::FailedPreconditionError(device + ": there is no CUDA driver on this machine");
  // Every driver of a major version runs what was built with any minor one of it.
  if (version / 1000 < runtime->RuntimeVersion() / 1000) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s: the driver is too old: wanted one for CUDA %d, got one for CUDA %s", device,
        runtime->RuntimeVersion() / 1000, VersionText(version)));
  }
  int count = 0;
  const CudaError counted = runtime->DeviceCount(count);
  if (counted == CudaError::kNoDevice || (counted == CudaError::kSuccess && count == 0))
    return absl::FailedPreconditionError(device + ": there is no CUDA device on this machine");
  if (counted != CudaError::kSuccess) return AtStart(*runtime, ordinal, "DeviceCount", counted);
  if (ordinal >= count) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: wanted one of this machine's %d CUDA devices, cuda:0 to cuda:%d", device, count,
        count - 1));
  }
  CudaDeviceFacts facts;
  if (const CudaError error = runtime->Facts(ordinal, facts); error != CudaError::kSuccess)
    return AtStart(*runtime, ordinal, "Facts", error);
  const std::string name = absl::StrFormat("%s (%s)", device, facts.name);
  if (std::find(architectures.begin(), architectures.end(), facts.architecture) ==
      architectures.end()) {
    std::vector<std::string> known;
    for (const CudaArchitecture& architecture : architectures)
      known.push_back(ArchitectureText(architecture));
    return absl::FailedPreconditionError(
        absl::StrFormat("%s: compute capability: this build has kernels for %s, got %s", name,
                        absl::StrJoin(known, ", "), ArchitectureText(facts.architecture)));
  }
  std::unique_ptr<CudaDevice> opened(new CudaDevice(std::move(runtime), ordinal, name));
  if (const CudaError error = opened->runtime().UseDevice(ordinal); error != CudaError::kSuccess)
    return AtStart(opened->runtime(), ordinal, "UseDevice", error);
  return opened;
}

absl::Status CudaDevice::Use() {
  if (absl::Status lost = loss(); !lost.ok()) return lost;
  return Check(runtime_->UseDevice(ordinal_), "UseDevice", "thread");
}

absl::Status CudaDevice::Check(CudaError error, const char* call, const std::string& what_for) {
  absl::MutexLock lock(&mutex_);
  if (!loss_.ok()) return loss_;
  if (error == CudaError::kSuccess) return absl::OkStatus();
  const std::string what =
      absl::StrFormat("%s: %s for %s: %s (%d)", name_, NameOfCall(call), what_for,
                      runtime_->TextOf(error), static_cast<int>(error));
  loss_ = absl::UnavailableError(what + "; the device is lost");
  if (on_lost_) on_lost_(loss_);
  return loss_;
}

absl::Status CudaDevice::CheckAllocation(CudaError error, const char* call, uint64_t bytes,
                                         const std::string& what_for) {
  if (error != CudaError::kMemoryAllocation) return Check(error, call, what_for);
  return absl::ResourceExhaustedError(
      absl::StrFormat("%s: %s of %d bytes for %s: %s (%d)", name_, call, bytes, what_for,
                      runtime_->TextOf(error), static_cast<int>(error)));
}

absl::Status CudaDevice::loss() const {
  absl::MutexLock lock(&mutex_);
  return loss_;
}

void CudaDevice::WatchForLoss(ExpertEngine::OnLost on_lost) {
  absl::MutexLock lock(&mutex_);
  on_lost_ = std::move(on_lost);
  if (on_lost_ && !loss_.ok()) on_lost_(loss_);
}

}  // namespace sheaf

#include "cli/commands/device_survey.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "exchange/nccl/nccl_communicator.h"
#include "exchange/nccl/nccl_library.h"
#include "worker/device/cuda_device.h"

namespace sheaf {
namespace {

double Gigabytes(uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

std::string CudaText(int version) {
  return absl::StrFormat("%d.%d", version / 1000, version % 1000 / 10);
}

absl::StatusOr<std::unique_ptr<CudaDevice>> OpenGpu(int ordinal, CudaFinder find_cuda,
                                                    DeviceSurvey::Gpu& gpu) {
  gpu.name = absl::StrFormat("cuda:%d", ordinal);
  SHEAF_ASSIGN_OR_RETURN(CudaPlatform platform, find_cuda());
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<CudaDevice> device,
                         CudaDevice::Open(std::move(platform.runtime), ordinal,
                                          platform.kernels->architectures()));
  gpu.name = device->name();
  CudaDeviceFacts facts;
  SHEAF_CUDA_RETURN_IF_ERROR(*device, Facts(ordinal, facts), "a survey");
  gpu.architecture = facts.architecture;
  size_t free_bytes = 0, total_bytes = 0;
  SHEAF_CUDA_RETURN_IF_ERROR(*device, MemoryInfo(free_bytes, total_bytes), "a survey");
  gpu.free_bytes = free_bytes;
  gpu.total_bytes = total_bytes;
  return device;
}

absl::Status SurveyNccl(const DevicesOptions& options, DeviceSurvey::Nccl& nccl) {
  SHEAF_ASSIGN_OR_RETURN(const std::unique_ptr<NcclLibrary> library,
                         NcclLibrary::Load(nccl.file));
  nccl.version = library->version().Text();
  nccl.features = library->features();
  SHEAF_ASSIGN_OR_RETURN(const NcclUniqueId id, library->NewUniqueId());
  nccl.made_id = true;
  const auto begin = std::chrono::steady_clock::now();
  SHEAF_RETURN_IF_ERROR(NcclCommunicator::Create(*library, /*ranks=*/1, /*rank=*/0, id,
                                                 std::chrono::milliseconds(options.timeout_ms))
                            .status());
  nccl.communicator_s =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return absl::OkStatus();
}

}  // namespace

DeviceSurvey SurveyDevices(const DevicesOptions& options, CudaFinder find_cuda) {
  DeviceSurvey survey;
  std::unique_ptr<CudaDevice> first;
  if (absl::StatusOr<CudaPlatform> cuda = find_cuda(); cuda.ok()) {
    int count = 0;
    cuda->runtime->DriverVersion(survey.driver_version);
    survey.runtime_version = cuda->runtime->RuntimeVersion();
    if (cuda->runtime->DeviceCount(count) != CudaError::kSuccess) count = 0;
    // Of no GPU at all the first says why.
    for (int ordinal = 0; ordinal < std::max(1, count); ++ordinal) {
      DeviceSurvey::Gpu gpu;
      auto device = OpenGpu(ordinal, find_cuda, gpu);
      gpu.refusal = device.status();
      survey.gpus.push_back(std::move(gpu));
      if (device.ok() && first == nullptr) first = *std::move(device);
    }
  } else {
    survey.no_cuda = cuda.status();
  }
  if (!options.nccl_library.empty()) {
    DeviceSurvey::Nccl& nccl = survey.nccl.emplace();
    nccl.file = options.nccl_library;
    if (first != nullptr) nccl.refusal = first->Use();
    if (nccl.refusal.ok()) nccl.refusal = SurveyNccl(options, nccl);
  }
  return survey;
}

std::string DeviceSurveyText(const DeviceSurvey& survey) {
  std::string text;
  if (survey.no_cuda.ok()) {
    text = absl::StrFormat("CUDA: the driver's is %s, this build's %s\n",
                           survey.driver_version == 0 ? "none" : CudaText(survey.driver_version),
                           CudaText(survey.runtime_version));
  } else {
    text = absl::StrFormat("CUDA: %s\n", std::string(survey.no_cuda.message()));
  }
  for (const DeviceSurvey::Gpu& gpu : survey.gpus) {
    if (gpu.refusal.ok()) {
      text += absl::StrFormat("  %s: compute capability %d.%d, %.2f of %.2f GB free\n", gpu.name,
                              gpu.architecture.major, gpu.architecture.minor,
                              Gigabytes(gpu.free_bytes), Gigabytes(gpu.total_bytes));
    } else {
      text += absl::StrFormat("  not usable: %s\n", std::string(gpu.refusal.message()));
    }
  }
  if (!survey.nccl.has_value()) return text;
  const DeviceSurvey::Nccl& nccl = *survey.nccl;
  if (!nccl.version.empty()) {
    text += absl::StrFormat("NCCL %s (%s): %s\n", nccl.version, nccl.file,
                            absl::StrJoin(nccl.features, ", "));
  } else {
    text += "NCCL\n";
  }
  if (nccl.made_id) text += "  a unique id: made\n";
  if (nccl.refusal.ok()) {
    text += absl::StrFormat("  a communicator of one rank: made in %.0f ms\n",
                            nccl.communicator_s * 1e3);
  } else {
    text += absl::StrFormat("  not usable: %s\n", std::string(nccl.refusal.message()));
  }
  return text;
}

absl::Status Verdict(const DeviceSurvey& survey) {
  SHEAF_RETURN_IF_ERROR(survey.no_cuda);
  const bool usable = std::any_of(survey.gpus.begin(), survey.gpus.end(),
                                  [](const auto& gpu) { return gpu.refusal.ok(); });
  if (!usable) return survey.gpus.front().refusal;
  return survey.nccl.has_value() ? survey.nccl->refusal : absl::OkStatus();
}

}  // namespace sheaf

#include "worker/device/device_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/status.h"
#include "worker/device/device_expert.h"

namespace sheaf {
namespace {

std::string NameOf(const LayerExpert& pair) {
  return absl::StrFormat("layer %d expert %d", pair.layer.value(), pair.expert.value());
}

absl::Status On(const CudaDevice& device, const LayerExpert& pair, const absl::Status& why) {
  return absl::Status(why.code(), absl::StrFormat("%s: %s: %s", device.name(), NameOf(pair),
                                                  std::string(why.message())));
}

}  // namespace

DeviceEngine::DeviceEngine(std::unique_ptr<CudaDevice> device,
                           std::unique_ptr<DeviceExpertKernels> kernels,
                           std::unique_ptr<ExpertReader> reader,
                           const DeviceEngineOptions& options, const DeviceMemoryPlan& plan,
                           size_t expert_bytes)
    : device_(std::move(device)),
      kernels_(std::move(kernels)),
      reader_(std::move(reader)),
      plan_(plan),
      expert_bytes_(expert_bytes),
      scratch_(static_cast<size_t>(std::max(1, options.lanes))),
      resources_(*device_),
      space_(plan.expert_bytes) {}

DeviceEngine::~DeviceEngine() = default;

absl::StatusOr<std::unique_ptr<DeviceEngine>> DeviceEngine::Create(
    CudaPlatform platform, std::unique_ptr<ExpertReader> reader,
    const DeviceEngineOptions& options) {
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<CudaDevice> device,
                         CudaDevice::Open(std::move(platform.runtime), options.ordinal,
                                          platform.kernels->architectures()));
  std::unique_ptr<DeviceExpertKernels> kernels = std::move(platform.kernels);
  SHEAF_RETURN_IF_ERROR(device->Check(kernels->Prepare(), "Prepare", "start"));
  LoadScratch scratch;
  SHEAF_ASSIGN_OR_RETURN(const ReadExpert largest, reader->Read(reader->largest(), scratch));
  const auto layout = kernels->Plan(largest.weights);
  if (!layout.ok()) return On(*device, reader->largest(), layout.status());
  SHEAF_CHECK((*layout)->bytes() == DeviceAligned((*layout)->bytes()),
              "layouts have whole 256 bytes");

  DeviceMemoryRequest request;
  size_t free_bytes = 0, total_bytes = 0;
  SHEAF_CUDA_RETURN_IF_ERROR(*device, MemoryInfo(free_bytes, total_bytes), "start");
  request.device = device->name();
  request.free_bytes = free_bytes;
  request.total_bytes = total_bytes;
  request.memory_bytes = options.memory_bytes;
  request.expert_bytes = (*layout)->bytes();
  request.layer.hidden = (*layout)->hidden();
  request.layer.intermediate = (*layout)->intermediate();
  request.layer.permuted = (*layout)->permuted();
  request.layer.jobs = options.num_experts;
  request.plan_bytes = [&](const DeviceBatchShape& shape) { return kernels->PlanBytes(shape); };
  request.workspace_bytes = [&](const DeviceBatchShape& shape) {
    return kernels->WorkspaceBytes(shape);
  };
  SHEAF_ASSIGN_OR_RETURN(const DeviceMemoryPlan plan, PlanDeviceMemory(request));
  std::unique_ptr<DeviceEngine> engine(
      new DeviceEngine(std::move(device), std::move(kernels), std::move(reader), options, plan,
                       (*layout)->bytes()));
  SHEAF_RETURN_IF_ERROR(engine->TakeMemory());
  return engine;
}

absl::Status DeviceEngine::TakeMemory() {
  SHEAF_ASSIGN_OR_RETURN(buffers_, DeviceBuffers::Create(plan_, resources_));
  SHEAF_ASSIGN_OR_RETURN(upload_, ExpertUpload::Create(*device_, *kernels_, plan_, resources_));
  SHEAF_ASSIGN_OR_RETURN(experts_, resources_.Allocate(plan_.expert_bytes, "experts"));
  return absl::OkStatus();
}

absl::Status DeviceEngine::FitsTheParts(const DeviceExpertLayout& layout) const {
  const DeviceBatchShape& part = plan_.part;
  if (layout.hidden() != part.hidden || layout.intermediate() != part.intermediate) {
    return absl::InvalidArgumentError(
        absl::StrFormat("wanted %d x %d weights as in the largest expert, got %d x %d",
                        part.intermediate, part.hidden, layout.intermediate(), layout.hidden()));
  }
  if (layout.permuted() && !part.permuted) {
    return absl::UnimplementedError(
        "its inputs have an order of their own, those of the largest expert have not");
  }
  return absl::OkStatus();
}

absl::StatusOr<HeldExpertPtr> DeviceEngine::Load(const LayerExpert& pair, int lane) {
  SHEAF_RETURN_IF_ERROR(device_->Use());
  SHEAF_ASSIGN_OR_RETURN(const ReadExpert read,
                         reader_->Read(pair, scratch_[static_cast<size_t>(lane)]));
  auto layout = kernels_->Plan(read.weights);
  if (!layout.ok()) return On(*device_, pair, layout.status());
  if (absl::Status fits = FitsTheParts(**layout); !fits.ok()) return On(*device_, pair, fits);
  const std::optional<uint64_t> at = space_.Take((*layout)->bytes());
  if (!at.has_value()) {
    return On(*device_, pair, absl::ResourceExhaustedError(absl::StrFormat(
                                  "wanted %d bytes of device memory, got %d free",
                                  (*layout)->bytes(), space_.free_bytes())));
  }
  auto expert = std::make_shared<const DeviceExpert>(space_, experts_, *at, *std::move(layout));
  SHEAF_RETURN_IF_ERROR(
      upload_->Run(expert->layout(), read.weights, expert->address(), NameOf(pair)));
  return expert;
}

std::unique_ptr<ExpertCompute> DeviceEngine::NewCompute(ThreadPool& pool) {
  return std::make_unique<DeviceCompute>(*device_, *kernels_, plan_, buffers_, pool);
}

std::string DeviceEngine::Describe() const {
  const auto mib = [](uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  return absl::StrFormat(
      "%s: %.1f MiB for experts of %.2f MiB, %.1f MiB for buffers (parts of %d tokens), %.1f MiB "
      "of "
      "pinned host memory",
      device_->name(), mib(plan_.expert_bytes), mib(expert_bytes_), mib(plan_.buffer_bytes),
      plan_.part.rows, mib(plan_.pinned_bytes));
}

}  // namespace sheaf

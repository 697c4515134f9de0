#pragma once
// DeviceEngine: experts in a GPU's memory, computed there: the device's side of
// worker/engine/expert_engine.h. On the host stay the checkpoint's files, the links, the packing
// and unpacking of frames and what an expert needs while it is being read; on the device are its
// weights, and rows and vectors while they are computed.
//
//   Load      reads the expert as the CPU would, uploads it (expert_upload.h), lets go of the
//             host's copy
//   compute   device_compute.h
//   memory    device_memory_plan.h, all taken when the engine is made; experts share one block of
//             it
//
// Contract   as worker/engine/expert_engine.h; one compute.
// Errors     Create: CudaDevice::Open's, PlanDeviceMemory's, ExpertReader's,
//            DeviceExpertKernels::Plan's. Load: also kResourceExhausted without room,
//            kUnimplemented for a storage without kernels. A device that is lost says so once.

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "model/expert_reader.h"
#include "worker/device/cuda_device.h"
#include "worker/device/cuda_platform.h"
#include "worker/device/device_compute.h"
#include "worker/device/device_memory_plan.h"
#include "worker/device/device_resources.h"
#include "worker/device/device_space.h"
#include "worker/device/expert_upload.h"
#include "worker/engine/expert_engine.h"

namespace sheaf {

struct DeviceEngineOptions {
  int ordinal = 0;            // of the device
  int lanes = 1;              // that load
  uint64_t memory_bytes = 0;  // of the device, buffers included; 0 = what is free
  int num_experts = 0;        // a layer
};

class DeviceEngine final : public ExpertEngine {
 public:
  static absl::StatusOr<std::unique_ptr<DeviceEngine>> Create(CudaPlatform platform,
                                                              std::unique_ptr<ExpertReader> reader,
                                                              const DeviceEngineOptions& options);
  ~DeviceEngine() override;

  absl::StatusOr<HeldExpertPtr> Load(const LayerExpert& pair, int lane) override;
  int lanes() const override { return static_cast<int>(scratch_.size()); }
  void WillNeed(const LayerExpert& pair) override { reader_->WillNeed(pair); }
  size_t expert_bytes() const override { return expert_bytes_; }
  uint64_t expert_file_bytes() const override { return reader_->expert_file_bytes(); }
  uint64_t memory_bytes() const override { return plan_.expert_bytes; }
  bool takes_8_bits() const override { return false; }
  std::unique_ptr<ExpertCompute> NewCompute(ThreadPool& pool) override;
  void WatchForLoss(OnLost on_lost) override { device_->WatchForLoss(std::move(on_lost)); }

  // "cuda:0 (NVIDIA H200): 131072.0 MiB for experts, 180.2 MiB for buffers, ...", for the log.
  std::string Describe() const;

 private:
  DeviceEngine(std::unique_ptr<CudaDevice> device, std::unique_ptr<DeviceExpertKernels> kernels,
               std::unique_ptr<ExpertReader> reader, const DeviceEngineOptions& options,
               const DeviceMemoryPlan& plan, size_t expert_bytes);
  absl::Status TakeMemory();
  absl::Status FitsTheParts(const DeviceExpertLayout& layout) const;

  const std::unique_ptr<CudaDevice> device_;
  const std::unique_ptr<DeviceExpertKernels> kernels_;
  const std::unique_ptr<ExpertReader> reader_;
  const DeviceMemoryPlan plan_;
  const size_t expert_bytes_;  // the largest
  std::vector<LoadScratch> scratch_;  // one a lane

  DeviceResources resources_;
  DeviceAddress experts_;  // the block that space_ divides
  DeviceSpace space_;
  DeviceBuffers buffers_;
  std::unique_ptr<ExpertUpload> upload_;
};

}  // namespace sheaf

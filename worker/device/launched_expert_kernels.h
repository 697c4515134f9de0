#pragma once
// LaunchedExpertKernels: the CUDA kernels of routed experts (kernels/experts/expert_ffn_cuda.h) as
// the device's engine wants them.
//
// An expert lies as kernels/experts/expert_memory_cuda.h says.
//
// Contract   as worker/device/device_expert_kernels.h. 4-bit integers alone; all else is
//            kUnimplemented.
// Threads    any. Nothing of it has run on a GPU; in the emulator it has.

#include <functional>

#include "kernels/experts/expert_ffn_cuda.h"
#include "worker/device/device_expert_kernels.h"

namespace sheaf {

class LaunchedExpertKernels final : public DeviceExpertKernels {
 public:
  // limits: of the device in use. seen_at: a device's address as kernels follow it, itself but in
  // an emulator.
  using Limits = std::function<CudaError(kernels::cuda::DeviceLimits& limits)>;
  using SeenAt = std::function<std::byte*(DeviceAddress at)>;
  LaunchedExpertKernels(Limits limits, SeenAt seen_at)
      : read_limits_(std::move(limits)), seen_at_(std::move(seen_at)) {}

  std::span<const CudaArchitecture> architectures() const override;
  CudaError Prepare() override;
  absl::StatusOr<std::shared_ptr<const DeviceExpertLayout>> Plan(
      const kernels::ExpertWeights& weights) const override;
  std::vector<DeviceUploadPiece> Pieces(const DeviceExpertLayout& layout,
                                        const kernels::ExpertWeights& weights,
                                        size_t most_bytes) const override;
  CudaError Arrived(const DeviceUploadPiece& piece, DeviceAddress expert,
                    CudaStream stream) override;
  size_t PlanBytes(const DeviceBatchShape& shape) const override;
  size_t WorkspaceBytes(const DeviceBatchShape& shape) const override;
  absl::Status WritePlan(const DeviceBatchShape& shape, int num_rows,
                         std::span<const DeviceJob> jobs, std::span<std::byte> plan,
                         DevicePlanHead& head) const override;
  CudaError Run(const DeviceBatch& batch, CudaStream stream) override;
  DevicePlanHead GraphHead(const DeviceBatchShape& shape,
                           const DevicePlanHead& like) const override;
  bool Covers(const DevicePlanHead& graph, const DevicePlanHead& head) const override;

 private:
  const Limits read_limits_;
  const SeenAt seen_at_;
  kernels::cuda::DeviceLimits limits_;  // once prepared
};

}  // namespace sheaf

#pragma once
// DeviceExpertKernels for tests: the CPU's scalar reference, run in the streams of a
// FakeCudaRuntime. An expert's layout is its arrays one behind the other, every byte turned round:
// what has not been brought in order, or twice, computes nonsense.
//
// Ownership  borrows the runtime. Threads: any.

#include <array>
#include <atomic>

#include "tests/cuda/fake_cuda_runtime.h"
#include "worker/device/device_expert_kernels.h"

namespace sheaf::testing {

struct ReferenceKernelOptions {
  bool floats = true;  // experts of float weights have kernels, too
  bool fast = false;   // the CPU's fast kernels: the same bytes, for whole processes
  int permuted_from = 0;  // layouts from the n-th on say that they are permuted; 0: those that are
};

class ReferenceExpertKernels final : public DeviceExpertKernels {
 public:
  ReferenceExpertKernels(FakeCudaRuntime& runtime, const ReferenceKernelOptions& options)
      : runtime_(runtime), options_(options) {}

  std::span<const CudaArchitecture> architectures() const override { return kArchitectures; }
  CudaError Prepare() override { return CudaError::kSuccess; }
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
  static constexpr std::array<CudaArchitecture, 2> kArchitectures{{{8, 0}, {9, 0}}};
  void Compute(const DeviceBatch& batch) const;

  FakeCudaRuntime& runtime_;
  const ReferenceKernelOptions options_;
  mutable std::atomic<int> planned_{0};  // layouts
};

}  // namespace sheaf::testing

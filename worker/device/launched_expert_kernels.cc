#include "worker/device/launched_expert_kernels.h"

#include <array>
#include <cstring>
#include <utility>

#include "base/status.h"
#include "kernels/experts/expert_memory_cuda.h"

namespace sheaf {
namespace {

using kernels::cuda::DeviceExpert;
using kernels::cuda::ExpertBatchShape;
using kernels::cuda::ExpertMemory;
using kernels::cuda::PlanHead;

// What the launches were compiled for (cmake/Cuda.cmake).
constexpr std::array<CudaArchitecture, 6> kArchitectures{
    {{8, 0}, {8, 6}, {8, 9}, {9, 0}, {10, 0}, {12, 0}}};

constexpr uint64_t kCodes = 1;  // a piece that is re-tiled

class Layout final : public DeviceExpertLayout {
 public:
  explicit Layout(ExpertMemory memory) : memory_(std::move(memory)) {}
  size_t bytes() const override { return memory_.bytes(); }
  int hidden() const override { return memory_.hidden(); }
  int intermediate() const override { return memory_.intermediate(); }
  bool permuted() const override { return memory_.permuted(); }
  const ExpertMemory& memory() const { return memory_; }

 private:
  const ExpertMemory memory_;
};

const Layout& Of(const DeviceExpertLayout& layout) { return static_cast<const Layout&>(layout); }

ExpertBatchShape Of(const DeviceBatchShape& shape) {
  return {.hidden = shape.hidden,
          .intermediate = shape.intermediate,
          .max_tokens = shape.rows,
          .max_jobs = shape.jobs,
          .max_rows = shape.pairs,
          .permuted = shape.permuted};
}

CudaError Of(int error) { return static_cast<CudaError>(error); }

static_assert(sizeof(PlanHead) <= sizeof(DevicePlanHead) && alignof(PlanHead) <= 8);

}  // namespace

std::span<const CudaArchitecture> LaunchedExpertKernels::architectures() const {
  return kArchitectures;
}

CudaError LaunchedExpertKernels::Prepare() {
  const CudaError read = read_limits_(limits_);
  if (read != CudaError::kSuccess) return read;
  return Of(kernels::cuda::PrepareExpertKernels(limits_));
}

absl::StatusOr<std::shared_ptr<const DeviceExpertLayout>> LaunchedExpertKernels::Plan(
    const kernels::ExpertWeights& weights) const {
  SHEAF_ASSIGN_OR_RETURN(ExpertMemory memory, ExpertMemory::Plan(weights));
  return std::make_shared<const Layout>(std::move(memory));
}

std::vector<DeviceUploadPiece> LaunchedExpertKernels::Pieces(
    const DeviceExpertLayout& layout, const kernels::ExpertWeights& weights,
    size_t most_bytes) const {
  std::vector<DeviceUploadPiece> pieces;
  for (const kernels::cuda::ExpertPiece& piece : Of(layout).memory().Pieces(weights, most_bytes))
    pieces.push_back({piece.host, piece.bytes, piece.at, piece.codes ? kCodes : 0});
  return pieces;
}

CudaError LaunchedExpertKernels::Arrived(const DeviceUploadPiece& piece, DeviceAddress expert,
                                         CudaStream stream) {
  if (piece.kind != kCodes) return CudaError::kSuccess;
  auto* const codes = reinterpret_cast<uint8_t*>(seen_at_(expert + piece.at));
  return Of(kernels::cuda::RetileCodes(limits_, codes, piece.bytes, stream));
}

size_t LaunchedExpertKernels::PlanBytes(const DeviceBatchShape& shape) const {
  return kernels::cuda::ExpertPlanLayout(Of(shape)).bytes;
}

size_t LaunchedExpertKernels::WorkspaceBytes(const DeviceBatchShape& shape) const {
  return kernels::cuda::ExpertScratchLayout(Of(shape)).bytes;
}

absl::Status LaunchedExpertKernels::WritePlan(const DeviceBatchShape& shape, int num_rows,
                                              std::span<const DeviceJob> jobs,
                                              std::span<std::byte> plan,
                                              DevicePlanHead& head) const {
  std::vector<DeviceExpert> experts;
  experts.reserve(jobs.size());
  std::vector<kernels::cuda::ExpertBatchJob> planned;
  planned.reserve(jobs.size());
  for (const DeviceJob& job : jobs) {
    experts.push_back(Of(*job.layout).memory().At(seen_at_(job.expert)));
    planned.push_back({&experts.back(), job.rows});
  }
  PlanHead own;
  const absl::Status status =
      kernels::cuda::PlanExperts(Of(shape), num_rows, planned, plan, own);
  std::memcpy(head.bytes, &own, sizeof(own));
  return status;
}

CudaError LaunchedExpertKernels::Run(const DeviceBatch& batch, CudaStream stream) {
  PlanHead head;
  std::memcpy(&head, batch.head.bytes, sizeof(head));
  kernels::cuda::ExpertBuffers buffers;
  buffers.plan = seen_at_(batch.plan);
  buffers.scratch = seen_at_(batch.workspace);
  buffers.planes = reinterpret_cast<const int8_t*>(seen_at_(batch.planes));
  buffers.scales = reinterpret_cast<const float*>(seen_at_(batch.scales));
  buffers.sums = reinterpret_cast<const int32_t*>(seen_at_(batch.sums));
  buffers.out = reinterpret_cast<float*>(seen_at_(batch.out));
  return Of(kernels::cuda::LaunchExperts(limits_, Of(batch.shape), head, buffers, stream));
}

DevicePlanHead LaunchedExpertKernels::GraphHead(const DeviceBatchShape& shape,
                                                const DevicePlanHead& like) const {
  PlanHead own;
  std::memcpy(&own, like.bytes, sizeof(own));
  own = kernels::cuda::LargestHead(Of(shape), own);
  DevicePlanHead head;
  std::memcpy(head.bytes, &own, sizeof(own));
  return head;
}

bool LaunchedExpertKernels::Covers(const DevicePlanHead& graph, const DevicePlanHead& head) const {
  PlanHead larger, own;
  std::memcpy(&larger, graph.bytes, sizeof(larger));
  std::memcpy(&own, head.bytes, sizeof(own));
  return kernels::cuda::Covers(larger, own);
}

}  // namespace sheaf

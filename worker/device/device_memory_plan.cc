#include "worker/device/device_memory_plan.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf {
namespace {

constexpr size_t kPieceBytes = size_t{4} << 20;  // a row block of any matrix, many times over
// For what the driver and the kernels take by themselves.
constexpr uint64_t kMostReserveBytes = uint64_t{512} << 20;
constexpr uint64_t kReserveShare = 32;
constexpr uint64_t kBufferShare = 8;

std::string MiB(uint64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

DeviceMemoryPlan WithRows(const DeviceMemoryRequest& request, int rows) {
  DeviceMemoryPlan plan;
  plan.part = request.layer;
  plan.part.rows = rows;
  plan.part.pairs = std::max(rows * DeviceMemoryPlan::kPairsARow, request.layer.jobs);
  plan.in_bytes = DeviceRowsLayout(rows, plan.part.hidden, request.plan_bytes(plan.part)).bytes;
  plan.out_bytes = DeviceAligned(sizeof(float) * static_cast<size_t>(plan.part.pairs) *
                                 static_cast<size_t>(plan.part.hidden));
  plan.workspace_bytes = DeviceAligned(request.workspace_bytes(plan.part));
  plan.piece_bytes = kPieceBytes;
  const uint64_t parts = DeviceMemoryPlan::kParts * uint64_t{plan.in_bytes + plan.out_bytes};
  plan.buffer_bytes = parts + plan.workspace_bytes;
  plan.pinned_bytes = parts + DeviceMemoryPlan::kParts * uint64_t{plan.piece_bytes};
  return plan;
}

}  // namespace

DeviceRowsLayout::DeviceRowsLayout(int rows, int hidden, size_t plan_bytes) {
  const size_t groups = static_cast<size_t>(kernels::NumGroups(hidden));
  const size_t num_rows = static_cast<size_t>(rows);
  scales_at = DeviceAligned(num_rows * groups * kernels::kGroupBytes);
  sums_at = scales_at + DeviceAligned(num_rows * groups * sizeof(float));
  plan_at = sums_at + DeviceAligned(num_rows * groups * kernels::kSumsPerGroup * sizeof(int32_t));
  bytes = plan_at + DeviceAligned(plan_bytes);
}

absl::StatusOr<DeviceMemoryPlan> PlanDeviceMemory(const DeviceMemoryRequest& request) {
  uint64_t budget = request.memory_bytes;
  if (budget > request.free_bytes) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "%s: --memory-bytes: wanted %s, got %s free of %s", request.device, MiB(budget),
        MiB(request.free_bytes), MiB(request.total_bytes)));
  }
  if (budget == 0) {
    const uint64_t reserve = std::min(kMostReserveBytes, request.total_bytes / kReserveShare);
    budget = request.free_bytes - std::min(request.free_bytes, reserve);
  }
  int rows = DeviceMemoryPlan::kMostRows;
  DeviceMemoryPlan plan = WithRows(request, rows);
  while (plan.buffer_bytes > budget / kBufferShare && rows > DeviceMemoryPlan::kFewestRows) {
    rows = std::max(rows / 2, DeviceMemoryPlan::kFewestRows);
    plan = WithRows(request, rows);
  }
  if (plan.buffer_bytes + request.expert_bytes > budget) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "%s: no expert fits: wanted %s for one beside %s of buffers, got %s%s", request.device,
        MiB(request.expert_bytes), MiB(plan.buffer_bytes), MiB(budget),
        request.memory_bytes > 0 ? " (--memory-bytes)"
                                 : absl::StrFormat(" (%s free of %s)", MiB(request.free_bytes),
                                                   MiB(request.total_bytes))));
  }
  plan.expert_bytes = (budget - plan.buffer_bytes) / 256 * 256;
  return plan;
}

}  // namespace sheaf

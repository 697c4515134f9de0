#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/experts/expert_ffn_cuda.cuh"
#include "kernels/experts/expert_ffn_cuda.h"
#include "kernels/linear/packed_w4_cuda.cuh"

namespace sheaf::kernels::cuda {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue

DeviceRows RowsAt(std::byte* scratch, const ExpertScratchLayout::Rows& at, int k) {
  DeviceRows rows;
  rows.planes = reinterpret_cast<int8_t*>(scratch + at.planes);
  rows.scales = reinterpret_cast<float*>(scratch + at.scales);
  rows.sums = reinterpret_cast<int32_t*>(scratch + at.sums);
  rows.groups = NumGroups(k);
  return rows;
}

ExpertBatchView ViewOf(const ExpertBatchShape& shape, const ExpertBuffers& buffers) {
  const ExpertPlanLayout plan(shape);
  const ExpertScratchLayout scratch(shape);
  ExpertBatchView view;
  view.head = reinterpret_cast<const PlanHead*>(buffers.plan);
  view.jobs = reinterpret_cast<const PlannedJob*>(buffers.plan + plan.jobs);
  view.rows = reinterpret_cast<const int32_t*>(buffers.plan + plan.rows);
  for (int list = 0; list < kPlanLists; ++list) {
    view.tiles[list] = reinterpret_cast<const PlannedTile*>(buffers.plan + plan.tiles[list]);
  }
  // Kernels read x only; the sums are written where they are ours.
  view.x.planes = const_cast<int8_t*>(buffers.planes);
  view.x.scales = const_cast<float*>(buffers.scales);
  view.x.sums = buffers.sums != nullptr
                    ? const_cast<int32_t*>(buffers.sums)
                    : reinterpret_cast<int32_t*>(buffers.scratch + scratch.input_sums);
  view.x.groups = NumGroups(shape.hidden);
  view.inner = RowsAt(buffers.scratch, scratch.inner, shape.intermediate);
  view.ordered_input = RowsAt(buffers.scratch, scratch.ordered_input, shape.hidden);
  view.ordered_inner = RowsAt(buffers.scratch, scratch.ordered_inner, shape.intermediate);
  view.out = buffers.out;
  return view;
}

// A grid that fills the device once: blocks take what is left in turns.
int GridFor(const DeviceLimits& limits, int64_t tiles, int blocks_a_processor) {
  return static_cast<int>(
      std::min<int64_t>(tiles, int64_t{limits.processors} * blocks_a_processor));
}

// The launches of a batch, until one fails.
class Launches {
 public:
  Launches(const DeviceLimits& limits, const PlanHead& head, const ExpertBatchView& view,
           void* stream)
      : limits_(limits), head_(head), view_(view), stream_(stream) {}

  int error() const { return error_; }

  void SumInput() {
    if (error_ != 0 || head_.num_tokens == 0) return;
    const int64_t warps = int64_t{head_.num_tokens} * view_.x.groups;
    const int64_t blocks = (warps * kWarpLanes + kSumThreads - 1) / kSumThreads;
    error_ = LaunchKernel(SumRows, {GridFor(limits_, blocks, 4), kSumThreads, 0}, stream_, view_.x,
                          static_cast<int64_t>(head_.num_tokens));
  }

  void Reorder(PlanList list) {
    if (error_ != 0 || head_.tiles[list] == 0) return;
    error_ = LaunchKernel(ReorderRows, {GridFor(limits_, head_.tiles[list], 4), kProductThreads, 0},
                          stream_, view_, list);
  }

  void Product(void (*kernel)(ExpertBatchView, PlanList, RingShape), int tiles, PlanList list) {
    if (error_ != 0 || head_.tiles[list] == 0) return;
    int blocks = 1;
    const RingShape ring = ChooseRing(limits_, tiles, head_.part_bytes, blocks);
    if (ring.stages < 2 || ring.shared_bytes() > limits_.block_shared_bytes) {
      error_ = kInvalidValue;
      return;
    }
    error_ = LaunchKernel(
        kernel, {GridFor(limits_, head_.tiles[list], blocks), kProductThreads, ring.shared_bytes()},
        stream_, view_, list, ring);
  }

 private:
  const DeviceLimits& limits_;
  const PlanHead& head_;
  const ExpertBatchView& view_;
  void* const stream_;
  int error_ = 0;
};

}  // namespace

int ReadDeviceLimits(DeviceLimits& limits) {
  DeviceSizes sizes;
  const int error = ReadDeviceSizes(sizes);
  limits = {sizes.processors, sizes.block_shared_bytes, sizes.processor_shared_bytes};
  return error;
}

int PrepareExpertKernels(const DeviceLimits& limits) {
  int error = 0;
  for (const auto kernel : {RunInnerTiles<kFewTiles>, RunInnerTiles<kManyTiles>,
                            RunOutputTiles<kFewTiles>, RunOutputTiles<kManyTiles>}) {
    if (error == 0) error = AllowSharedMemory(kernel, limits.block_shared_bytes);
  }
  return error;
}

int RetileCodes(const DeviceLimits& limits, uint8_t* codes, size_t bytes, void* stream) {
  if (bytes % kTileBytes != 0) return kInvalidValue;
  const int64_t tiles = static_cast<int64_t>(bytes / kTileBytes);
  if (tiles == 0) return 0;
  const int64_t blocks = (tiles * kWarpLanes + kRetileThreads - 1) / kRetileThreads;
  return LaunchKernel(RetileW4, {GridFor(limits, blocks, 8), kRetileThreads, 0}, stream,
                      reinterpret_cast<uint32_t*>(codes), tiles);
}

int LaunchExperts(const DeviceLimits& limits, const ExpertBatchShape& shape, const PlanHead& head,
                  const ExpertBuffers& buffers, void* stream) {
  const ExpertBatchView view = ViewOf(shape, buffers);
  Launches launches(limits, head, view, stream);
  if (buffers.sums == nullptr) launches.SumInput();
  launches.Reorder(kReorderInput);
  launches.Product(RunInnerTiles<kFewTiles>, kFewTiles, kFewInner);
  launches.Product(RunInnerTiles<kManyTiles>, kManyTiles, kManyInner);
  launches.Reorder(kReorderInner);
  launches.Product(RunOutputTiles<kFewTiles>, kFewTiles, kFewOutput);
  launches.Product(RunOutputTiles<kManyTiles>, kManyTiles, kManyOutput);
  return launches.error();
}

}  // namespace sheaf::kernels::cuda

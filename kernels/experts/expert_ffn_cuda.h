#pragma once
// Routed experts on a CUDA device: kernels/experts/expert_ffn.h for a batch of (expert, rows) jobs,
// the same bytes. Also what loads their weights: RetileCodes.
//
//   once        ReadDeviceLimits(limits), PrepareExpertKernels(limits)
//   an expert   its pieces copied to the device (kernels/experts/expert_memory_cuda.h); RetileCodes
//               of codes, in place
//   a batch     PlanExperts(...) into pinned memory; the plan and x copied to the device;
//               LaunchExperts(...); out copied back
//
// Shapes     x [num_tokens][hidden] quantized; out [pairs][hidden] floats, jobs in the plan's
//            order, rows in their job's.
// Numbers    the bits of ref::RunExpert, but that every NaN is 0x7fc00000; independent of the other
//            jobs, of grid, stages and device.
// Launches   2 where all jobs have at most kFewRows rows (or all more), 4 in a mixed batch; one
//            more for the sums of x where they did not come along, up to two for permutations. Each
//            takes all jobs.
// Ownership  all pointers are device memory; nothing is allocated.
// Threads    asynchronous on `stream` (a cudaStream_t) of the calling thread's current device;
//            capturable into a graph. Any thread.
// Errors     a cudaError_t as an int, 0 for none.
// Not run on a GPU yet: see docs/cuda_kernels.md.

#include <cstddef>
#include <cstdint>

#include "kernels/experts/expert_plan_cuda.h"

namespace sheaf::kernels::cuda {

struct ExpertBuffers {
  const std::byte* plan = nullptr;  // ExpertPlanLayout's, 256-byte aligned
  std::byte* scratch = nullptr;     // ExpertScratchLayout's, 256-byte aligned
  const int8_t* planes = nullptr;   // of x, 16-byte aligned
  const float* scales = nullptr;
  const int32_t* sums = nullptr;  // 16-byte aligned; null: made here
  float* out = nullptr;
};

// Of the calling thread's current device.
int ReadDeviceLimits(DeviceLimits& limits);

int PrepareExpertKernels(const DeviceLimits& limits);

// codes: packed tiles (kernels/linear/packed_w4_cuda.h), 16-byte aligned: any slice of a tensor
// that begins and ends with a tile.
int RetileCodes(const DeviceLimits& limits, uint8_t* codes, size_t bytes, void* stream);

// `head` is the plan's, as PlanExperts gave it; for a graph that serves every batch of the shape,
// one with the largest counts and part_bytes of them all (an empty list is not launched; x then has
// num_tokens rows of memory).
int LaunchExperts(const DeviceLimits& limits, const ExpertBatchShape& shape, const PlanHead& head,
                  const ExpertBuffers& buffers, void* stream);

}  // namespace sheaf::kernels::cuda

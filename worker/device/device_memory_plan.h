#pragma once
// Where a device's memory goes, decided before anything is allocated: the buffers of two parts of a
// batch and the kernels' workspace; the rest is for experts. Pinned memory of the host: the same
// buffers, and two pieces of an expert that is being loaded.
//
// Pure. Errors  kResourceExhausted naming wanted and got: the device has less free than was asked
//               for, or no expert fits beside the buffers.
// Cost          the parts are as large as an eighth of the memory allows, at most kMostRows tokens:
//               above, a part reads its experts once anyway.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "worker/device/device_expert_kernels.h"

namespace sheaf {

struct DeviceMemoryRequest {
  std::string device;           // its name
  uint64_t free_bytes = 0;      // of the device, now
  uint64_t total_bytes = 0;
  uint64_t memory_bytes = 0;    // that may be taken; 0 = what is free, but for a reserve
  uint64_t expert_bytes = 0;    // in device memory, the largest
  // hidden, intermediate, permuted; jobs: experts of a layer, the most that
  DeviceBatchShape layer;
                                // one token goes to
  std::function<size_t(const DeviceBatchShape&)> plan_bytes;
  std::function<size_t(const DeviceBatchShape&)> workspace_bytes;
};

// One part of a batch as it travels: offsets of its arrays in one block, 256-byte aligned.
struct DeviceRowsLayout {
  DeviceRowsLayout() = default;
  DeviceRowsLayout(int rows, int hidden, size_t plan_bytes);
  size_t scales_at = 0;  // planes are at 0
  size_t sums_at = 0;
  size_t plan_at = 0;
  size_t bytes = 0;
};

struct DeviceMemoryPlan {
  static constexpr int kMostRows = 512;  // tokens of a part
  static constexpr int kFewestRows = 16;
  static constexpr int kPairsARow = 8;
  static constexpr int kParts = 2;  // of a batch, and pieces of an expert, under way

  DeviceBatchShape part;      // the largest
  size_t in_bytes = 0;        // a part: rows and plan
  size_t out_bytes = 0;       // a part: vectors
  size_t workspace_bytes = 0;
  size_t piece_bytes = 0;     // of an expert that is being loaded
  uint64_t expert_bytes = 0;  // for all experts
  uint64_t buffer_bytes = 0;  // all but the experts
  uint64_t pinned_bytes = 0;  // of the host
};

absl::StatusOr<DeviceMemoryPlan> PlanDeviceMemory(const DeviceMemoryRequest& request);

constexpr size_t DeviceAligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace sheaf

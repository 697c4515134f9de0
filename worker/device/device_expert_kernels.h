#pragma once
// DeviceExpertKernels: what the device's engine needs of the kernels that compute experts on it.
// The launchers of kernels/ implement it, and for tests the CPU's reference, run inside a fake
// stream.
//
//   Plan       an expert's layout in device memory: its bytes, and what the host must remember of
//              it
//   Pieces     what is copied to get it there, each to its place in the expert, none above
//              most_bytes
//   Arrived    a piece that is there is brought into the kernels' own order, in place
//   WritePlan  what a batch's kernels read besides its rows: jobs, indexes of rows, tiles
//   Run        one float vector a pair: out[pair] = expert(x[row]), pairs job by job
//   GraphHead  the head to Run with while a graph is captured that is to serve every batch of the
//              shape: what the kernels do follows the plan that lies in device memory when the
//              graph is launched
//   Covers     whether a graph of that head serves a batch of this one
//
// Sizes      PlanBytes and WorkspaceBytes grow with every count of a shape. A batch is planned and
//            run with one shape that holds it, as tight as one likes.
// Numbers    the bytes of kernels/experts/expert_ffn.h.
// Threads    any; Arrived and Run enqueue and do not wait.
// Errors     Plan: kUnimplemented for a storage that has no kernels. WritePlan: weights or counts
//            that are not of the shape. Arrived, Run: of the launch.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/experts/expert_ffn.h"
#include "worker/device/cuda_runtime.h"

namespace sheaf {

class DeviceExpertLayout {
 public:
  virtual ~DeviceExpertLayout() = default;
  virtual size_t bytes() const = 0;  // a multiple of 256
  virtual int hidden() const = 0;
  virtual int intermediate() const = 0;
  virtual bool permuted() const = 0;  // some of its inputs are in another order than x
};

struct DeviceUploadPiece {
  const void* host = nullptr;  // of the weights that it was planned from
  size_t bytes = 0;
  size_t at = 0;      // in the expert
  uint64_t kind = 0;  // the implementation's own
};

struct DeviceBatchShape {
  int hidden = 0;
  int intermediate = 0;
  int rows = 0;  // of x, the most
  int jobs = 0;  // the most
  int pairs = 0;  // the most
  bool permuted = false;  // whether any expert is
};

struct DeviceJob {
  const DeviceExpertLayout* layout = nullptr;
  DeviceAddress expert;
  std::span<const int32_t> rows;  // of x, >= 1
};

// What the host keeps of a plan for its launches; the implementation's own.
struct DevicePlanHead {
  alignas(8) std::byte bytes[64] = {};
};

// All in device memory, 256-byte aligned.
struct DeviceBatch {
  DeviceBatchShape shape;
  DevicePlanHead head;
  DeviceAddress planes;     // int8 [rows][groups][256], kernels/linear/quantized_rows.h
  DeviceAddress scales;     // float [rows][groups]
  DeviceAddress sums;       // int32 [rows][groups][4]
  DeviceAddress plan;       // PlanBytes, what WritePlan wrote
  DeviceAddress workspace;  // WorkspaceBytes
  DeviceAddress out;        // float [pairs][hidden]
};

class DeviceExpertKernels {
 public:
  virtual ~DeviceExpertKernels() = default;

  virtual std::span<const CudaArchitecture> architectures() const = 0;
  // The device has been opened, and is the calling thread's.
  virtual CudaError Prepare() = 0;

  virtual absl::StatusOr<std::shared_ptr<const DeviceExpertLayout>> Plan(
      const kernels::ExpertWeights& weights) const = 0;
  virtual std::vector<DeviceUploadPiece> Pieces(const DeviceExpertLayout& layout,
                                                const kernels::ExpertWeights& weights,
                                                size_t most_bytes) const = 0;
  virtual CudaError Arrived(const DeviceUploadPiece& piece, DeviceAddress expert,
                            CudaStream stream) = 0;

  virtual size_t PlanBytes(const DeviceBatchShape& shape) const = 0;
  virtual size_t WorkspaceBytes(const DeviceBatchShape& shape) const = 0;
  // `plan` is PlanBytes(shape) of the host's memory, 256-byte aligned.
  virtual absl::Status WritePlan(const DeviceBatchShape& shape, int num_rows,
                                 std::span<const DeviceJob> jobs, std::span<std::byte> plan,
                                 DevicePlanHead& head) const = 0;
  virtual CudaError Run(const DeviceBatch& batch, CudaStream stream) = 0;
  // `like`: of a batch whose experts are as those to come.
  virtual DevicePlanHead GraphHead(const DeviceBatchShape& shape,
                                   const DevicePlanHead& like) const = 0;
  virtual bool Covers(const DevicePlanHead& graph, const DevicePlanHead& head) const = 0;
};

}  // namespace sheaf

#pragma once
// DeviceExpertKernels: what the device's engine needs of the kernels that compute experts on it. The launchers
// of kernels/ implement it, and for tests the CPU's reference, run inside a fake stream.
//
//   Plan       an expert's layout in device memory: its bytes, and what the host must remember of it
//   Pieces     what is copied to get it there, in the order of the copies, no piece above max_bytes
//   Place      a piece that lies at `staged` goes where it belongs in the expert at `at` (copied or re-tiled)
//   WriteJobs  the table of jobs, as Run reads it in device memory
//   Run        one float vector a pair: out[pair] = expert(x[rows[pair]]), pairs job by job
//
// Numbers    the bytes of kernels/experts/expert_ffn.h.
// Threads    any; Place and Run enqueue and do not wait.
// Errors     Plan: kUnimplemented for a storage that has no kernels. Place, Run: of the launch.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

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
};

struct DeviceUploadPiece {
  const void* host = nullptr;  // of the weights that it was planned from
  size_t bytes = 0;
  uint64_t place = 0;  // the implementation's own
};

struct DeviceJob {
  const DeviceExpertLayout* layout = nullptr;
  DeviceAddress expert;
  int first_pair = 0;
  int num_pairs = 0;
};

// All in device memory, 256-byte aligned.
struct DeviceBatch {
  int hidden = 0;
  int intermediate = 0;
  int num_rows = 0;
  int num_jobs = 0;
  int num_pairs = 0;
  DeviceAddress planes;     // int8 [num_rows][groups][256], kernels/linear/quantized_rows.h
  DeviceAddress scales;     // float [num_rows][groups]
  DeviceAddress sums;       // int32 [num_rows][groups][4]
  DeviceAddress rows;       // int32 [num_pairs]
  DeviceAddress jobs;       // what WriteJobs wrote
  DeviceAddress workspace;  // WorkspaceBytes
  DeviceAddress out;        // float [num_pairs][hidden]
};

class DeviceExpertKernels {
 public:
  virtual ~DeviceExpertKernels() = default;

  virtual std::span<const CudaArchitecture> architectures() const = 0;

  virtual absl::StatusOr<std::shared_ptr<const DeviceExpertLayout>> Plan(
      const kernels::ExpertWeights& weights) const = 0;
  virtual std::vector<DeviceUploadPiece> Pieces(const DeviceExpertLayout& layout,
                                                const kernels::ExpertWeights& weights,
                                                size_t max_bytes) const = 0;
  virtual CudaError Place(const DeviceExpertLayout& layout, const DeviceUploadPiece& piece,
                          DeviceAddress staged, DeviceAddress at, CudaStream stream) = 0;

  virtual size_t JobBytes(int num_jobs) const = 0;
  virtual void WriteJobs(std::span<const DeviceJob> jobs, void* table) const = 0;
  virtual size_t WorkspaceBytes(int num_pairs, int intermediate) const = 0;
  virtual CudaError Run(const DeviceBatch& batch, CudaStream stream) = 0;
};

}  // namespace sheaf

#pragma once
// DeviceCompute: batches of experts on a device. A batch goes in parts (batch_parts.h) through two
// sets of buffers, so that a part's rows are staged and travel while the part before it is computed
// and the vectors of the one before that come back.
//
//   host          pinned rows | copy in, an event | kernels, an event | copy out, an event | pinned
//                 vectors
//   stream        -             rows                experts             vectors              -
//
// Copies in and out have a stream each: in one, a copy in would wait behind the copy out before it,
// and that one for the kernels.
//
// Graphs     a part of up to kMostGraphRows tokens, as decode makes them, is one launch: copy in,
//            kernels and copy out of a CUDA graph, captured when a part of its size first comes,
//            for each set of buffers. Sizes are powers of two, in tokens and in pairs; what is
//            beyond the part's own is copied along and read by nobody.
//
// Contract   as exchange/expert_compute.h. depth() is 2: one batch computes while the next is
//            staged.
// Ownership  borrows all that it is made from. The experts of a batch must live until its end:
//            Complete and Abandon return when the device reads nothing of theirs any more.
// Errors     CudaDevice's, naming the layer; kInvalidArgument: more jobs than a layer has experts.
// Cost       beside the device's work: one copy of the rows and one of the vectors, over the pool.

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "exchange/expert_compute.h"
#include "worker/device/batch_parts.h"
#include "worker/device/cuda_device.h"
#include "worker/device/device_expert_kernels.h"
#include "worker/device/device_memory_plan.h"
#include "worker/device/device_resources.h"

namespace sheaf {

// What it works with, made once with the engine.
struct DeviceBuffers {
  struct Side {
    uint8_t* pinned_in = nullptr;
    uint8_t* pinned_out = nullptr;
    DeviceAddress in;
    DeviceAddress out;
    CudaEvent arrived = nullptr;   // rows
    CudaEvent computed = nullptr;
    CudaEvent returned = nullptr;  // vectors
  };
  std::array<Side, DeviceMemoryPlan::kParts> sides;
  DeviceAddress workspace;
  CudaStream rows = nullptr;
  CudaStream experts = nullptr;
  CudaStream vectors = nullptr;

  static absl::StatusOr<DeviceBuffers> Create(const DeviceMemoryPlan& plan,
                                              DeviceResources& resources);
};

class DeviceCompute final : public ExpertCompute {
 public:
  static constexpr int kMostGraphRows = 64;

  DeviceCompute(CudaDevice& device, DeviceExpertKernels& kernels, const DeviceMemoryPlan& plan,
                const DeviceBuffers& buffers, ThreadPool& pool)
      : device_(device),
        kernels_(kernels),
        plan_(plan),
        buffers_(buffers),
        pool_(pool) {}
  ~DeviceCompute() override;

  int depth() const override { return 2; }
  absl::Status Submit(const ExpertBatch& batch) override;
  absl::Status Complete(float* out) override;
  void Abandon() override;

 private:
  struct Work {
    ExpertBatch batch;
    std::string what;  // "layer 3"
    std::vector<BatchPart> parts;
    std::vector<size_t> pairs_before;  // each job, in the output
    size_t started = 0;
    size_t returned = 0;
  };

  // Of parts of a size, in one side's buffers.
  struct Graph {
    CudaGraph launch = nullptr;
    DevicePlanHead head;  // that it was captured with
  };
  using GraphSize = std::pair<int, int>;  // tokens, pairs

  absl::Status StartParts();
  absl::Status Start(const Work& work, const BatchPart& part, const DeviceBuffers::Side& side);
  DeviceBatchShape ShapeOf(const BatchPart& part) const;
  // The shape of a graph for it; none: it has none.
  std::optional<DeviceBatchShape> GraphShapeOf(const BatchPart& part) const;
  // With the buffers laid out for `shape`.
  DeviceBatch Stage(const Work& work, const BatchPart& part, const DeviceBatchShape& shape,
                    const DeviceBuffers::Side& side);
  absl::Status StartGraph(const Work& work, const DeviceBatch& batch,
                          const DeviceBuffers::Side& side);
  absl::Status Capture(const Work& work, const DeviceBatch& batch,
                       const DeviceBuffers::Side& side, CudaGraph& graph);
  size_t InBytes(const DeviceBatchShape& shape) const;
  static size_t OutBytes(const DeviceBatchShape& shape);
  // Of the oldest part under way; the front of work_ has it.
  absl::Status Return(float* out);
  void CopyOut(const Work& work, const BatchPart& part, const float* vectors, float* out);
  const DeviceBuffers::Side& SideOf(uint64_t part) const {
    return buffers_.sides[part % buffers_.sides.size()];
  }

  CudaDevice& device_;
  DeviceExpertKernels& kernels_;
  const DeviceMemoryPlan plan_;
  const DeviceBuffers buffers_;
  ThreadPool& pool_;

  std::deque<Work> work_;
  uint64_t parts_started_ = 0;  // of all batches; a part's number says which side it uses
  uint64_t parts_returned_ = 0;
  std::vector<DeviceJob> jobs_;
  std::vector<int32_t> rows_;  // of a part's jobs, one behind the other
  std::array<std::map<GraphSize, Graph>, DeviceMemoryPlan::kParts> graphs_;  // by side
};

}  // namespace sheaf

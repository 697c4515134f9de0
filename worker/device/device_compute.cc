#include "worker/device/device_compute.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/status.h"
#include "worker/device/device_expert.h"

namespace sheaf {

absl::StatusOr<DeviceBuffers> DeviceBuffers::Create(const DeviceMemoryPlan& plan,
                                                    DeviceResources& resources) {
  const std::string what = "computing experts";
  DeviceBuffers buffers;
  SHEAF_ASSIGN_OR_RETURN(buffers.workspace, resources.Allocate(plan.workspace_bytes, what));
  for (Side& side : buffers.sides) {
    SHEAF_ASSIGN_OR_RETURN(side.pinned_in, resources.AllocatePinned(plan.in_bytes, what));
    SHEAF_ASSIGN_OR_RETURN(side.pinned_out, resources.AllocatePinned(plan.out_bytes, what));
    SHEAF_ASSIGN_OR_RETURN(side.in, resources.Allocate(plan.in_bytes, what));
    SHEAF_ASSIGN_OR_RETURN(side.out, resources.Allocate(plan.out_bytes, what));
    SHEAF_ASSIGN_OR_RETURN(side.arrived, resources.NewEvent(what));
    SHEAF_ASSIGN_OR_RETURN(side.computed, resources.NewEvent(what));
    SHEAF_ASSIGN_OR_RETURN(side.returned, resources.NewEvent(what));
  }
  SHEAF_ASSIGN_OR_RETURN(buffers.rows, resources.NewStream(/*urgent=*/true, what));
  SHEAF_ASSIGN_OR_RETURN(buffers.experts, resources.NewStream(/*urgent=*/true, what));
  SHEAF_ASSIGN_OR_RETURN(buffers.vectors, resources.NewStream(/*urgent=*/true, what));
  return buffers;
}

DeviceCompute::~DeviceCompute() {
  while (!work_.empty()) Abandon();
  if (!device_.Use().ok()) return;  // of a lost device nothing is given back
  for (const auto& graphs : graphs_) {
    for (const auto& [size, graph] : graphs) {
      if (graph.launch != nullptr) device_.runtime().DestroyGraph(graph.launch);
    }
  }
}

absl::Status DeviceCompute::Submit(const ExpertBatch& batch) {
  SHEAF_RETURN_IF_ERROR(device_.Use());
  SHEAF_CHECK(work_.size() < static_cast<size_t>(depth()), "no more is submitted than depth()");
  if (batch.x.bits != kernels::ActivationBits::k16) {
    return absl::InvalidArgumentError(
        absl::StrFormat("layer %d: activations: wanted 16 bits, got 8", batch.layer.value()));
  }
  if (batch.jobs.size() > static_cast<size_t>(plan_.part.jobs)) {
    return absl::InvalidArgumentError(absl::StrFormat("layer %d: wanted at most %d experts, got %d",
                                                      batch.layer.value(), plan_.part.jobs,
                                                      batch.jobs.size()));
  }
  Work work;
  work.batch = batch;
  work.what = absl::StrFormat("layer %d", batch.layer.value());
  work.parts = CutBatch(batch, plan_.part.rows, plan_.part.pairs);
  size_t pairs = 0;
  for (const HeldExpertJob& job : batch.jobs) {
    work.pairs_before.push_back(pairs);
    pairs += job.rows.size();
  }
  work_.push_back(std::move(work));
  absl::Status started = StartParts();
  if (!started.ok()) work_.pop_back();
  return started;
}

absl::Status DeviceCompute::Complete(float* out) {
  Work& work = work_.front();
  absl::Status status = device_.Use();
  while (status.ok() && work.returned < work.parts.size()) {
    status = StartParts();
    if (status.ok()) status = Return(out);
  }
  work_.pop_front();
  // What comes of the next batch is said when that one is completed.
  if (status.ok()) StartParts().IgnoreError();
  return status;
}

void DeviceCompute::Abandon() {
  Work& work = work_.front();
  work.parts.resize(work.started);
  absl::Status status = device_.Use();
  while (status.ok() && work.returned < work.parts.size()) status = Return(nullptr);
  work_.pop_front();
}

absl::Status DeviceCompute::StartParts() {
  for (Work& work : work_) {
    while (work.started < work.parts.size()) {
      if (parts_started_ - parts_returned_ == buffers_.sides.size()) return absl::OkStatus();
      SHEAF_RETURN_IF_ERROR(Start(work, work.parts[work.started], SideOf(parts_started_)));
      ++work.started;
      ++parts_started_;
    }
  }
  return absl::OkStatus();
}

absl::Status DeviceCompute::Start(const Work& work, const BatchPart& part,
                                  const DeviceBuffers::Side& side) {
  const std::optional<DeviceBatchShape> graph_shape = GraphShapeOf(part);
  if (graph_shape.has_value()) return StartGraph(work, Stage(work, part, *graph_shape, side), side);
  const DeviceBatch batch = Stage(work, part, ShapeOf(part), side);
  const std::string& what = work.what;
  SHEAF_CUDA_RETURN_IF_ERROR(
      device_, CopyToDevice(side.in, side.pinned_in, InBytes(batch.shape), buffers_.rows), what);
  SHEAF_CUDA_RETURN_IF_ERROR(device_, Record(side.arrived, buffers_.rows), what);
  SHEAF_CUDA_RETURN_IF_ERROR(device_, WaitFor(buffers_.experts, side.arrived), what);
  SHEAF_RETURN_IF_ERROR(device_.Check(kernels_.Run(batch, buffers_.experts), "Run", what));
  SHEAF_CUDA_RETURN_IF_ERROR(device_, Record(side.computed, buffers_.experts), what);
  SHEAF_CUDA_RETURN_IF_ERROR(device_, WaitFor(buffers_.vectors, side.computed), what);
  SHEAF_CUDA_RETURN_IF_ERROR(
      device_, CopyToHost(side.pinned_out, side.out, OutBytes(batch.shape), buffers_.vectors),
      what);
  SHEAF_CUDA_RETURN_IF_ERROR(device_, Record(side.returned, buffers_.vectors), what);
  return absl::OkStatus();
}

DeviceBatchShape DeviceCompute::ShapeOf(const BatchPart& part) const {
  DeviceBatchShape shape = plan_.part;
  shape.rows = part.num_rows;
  shape.jobs = static_cast<int>(part.runs.size());
  shape.pairs = part.num_pairs;
  return shape;
}

std::optional<DeviceBatchShape> DeviceCompute::GraphShapeOf(const BatchPart& part) const {
  DeviceBatchShape shape = plan_.part;
  shape.rows = static_cast<int>(std::bit_ceil(static_cast<unsigned>(part.num_rows)));
  shape.pairs = static_cast<int>(std::bit_ceil(static_cast<unsigned>(part.num_pairs)));
  shape.jobs = std::min(shape.pairs, plan_.part.jobs);
  if (shape.rows > std::min(kMostGraphRows, plan_.part.rows) || shape.pairs > plan_.part.pairs ||
      InBytes(shape) > plan_.in_bytes || OutBytes(shape) > plan_.out_bytes) {
    return std::nullopt;
  }
  return shape;
}

size_t DeviceCompute::InBytes(const DeviceBatchShape& shape) const {
  return DeviceRowsLayout(shape.rows, shape.hidden, kernels_.PlanBytes(shape)).bytes;
}

size_t DeviceCompute::OutBytes(const DeviceBatchShape& shape) {
  return sizeof(float) * static_cast<size_t>(shape.pairs) * static_cast<size_t>(shape.hidden);
}

absl::Status DeviceCompute::StartGraph(const Work& work, const DeviceBatch& batch,
                                       const DeviceBuffers::Side& side) {
  auto& graphs = graphs_[static_cast<size_t>(&side - buffers_.sides.data())];
  Graph& graph = graphs[{batch.shape.rows, batch.shape.pairs}];
  if (graph.launch != nullptr && !kernels_.Covers(graph.head, batch.head)) {
    // The side is free, so nothing of the graph runs.
    SHEAF_CUDA_RETURN_IF_ERROR(device_, DestroyGraph(std::exchange(graph.launch, nullptr)),
                               work.what);
  }
  if (graph.launch == nullptr) {
    DeviceBatch largest = batch;
    largest.head = graph.head = kernels_.GraphHead(batch.shape, batch.head);
    SHEAF_RETURN_IF_ERROR(Capture(work, largest, side, graph.launch));
  }
  SHEAF_CUDA_RETURN_IF_ERROR(device_, LaunchGraph(graph.launch, buffers_.experts), work.what);
  SHEAF_CUDA_RETURN_IF_ERROR(device_, Record(side.returned, buffers_.experts), work.what);
  return absl::OkStatus();
}

absl::Status DeviceCompute::Capture(const Work& work, const DeviceBatch& batch,
                                    const DeviceBuffers::Side& side, CudaGraph& graph) {
  const std::string what = work.what + ", a graph";
  CudaRuntime& runtime = device_.runtime();
  SHEAF_CUDA_RETURN_IF_ERROR(device_, BeginCapture(buffers_.experts), what);
  CudaError error =
      runtime.CopyToDevice(side.in, side.pinned_in, InBytes(batch.shape), buffers_.experts);
  if (error == CudaError::kSuccess) error = kernels_.Run(batch, buffers_.experts);
  if (error == CudaError::kSuccess) {
    error = runtime.CopyToHost(side.pinned_out, side.out, OutBytes(batch.shape), buffers_.experts);
  }
  // Ended in any case: the stream is as it was.
  const CudaError ended = runtime.EndCapture(buffers_.experts, graph);
  SHEAF_RETURN_IF_ERROR(device_.Check(error, "what a graph is made of", what));
  return device_.Check(ended, "EndCapture", what);
}

DeviceBatch DeviceCompute::Stage(const Work& work, const BatchPart& part,
                                 const DeviceBatchShape& shape, const DeviceBuffers::Side& side) {
  const kernels::QuantizedRows& x = work.batch.x;
  const size_t groups = static_cast<size_t>(x.groups());
  const size_t num_rows = static_cast<size_t>(part.num_rows);
  DeviceBatch batch;
  batch.shape = shape;
  const size_t plan_bytes = kernels_.PlanBytes(shape);
  const DeviceRowsLayout layout(shape.rows, x.k, plan_bytes);
  SHEAF_CHECK(layout.bytes <= plan_.in_bytes, "a part fits the buffers");
  std::memcpy(side.pinned_in, x.row_planes(part.first_row),
              num_rows * groups * kernels::kGroupBytes);
  std::memcpy(side.pinned_in + layout.scales_at, x.row_scales(part.first_row),
              num_rows * groups * sizeof(float));
  const size_t sums_a_row = groups * kernels::kSumsPerGroup;
  int32_t* const sums = reinterpret_cast<int32_t*>(side.pinned_in + layout.sums_at);
  if (x.sums != nullptr) {
    std::memcpy(sums, x.row_sums(part.first_row), num_rows * sums_a_row * sizeof(int32_t));
  } else {
    pool_.ParallelFor(part.num_rows, CostOfElements(x.k), [&](int64_t row, int) {
      kernels::SumRow(x.row_planes(part.first_row + static_cast<int>(row)), x.k,
                      sums + sums_a_row * static_cast<size_t>(row));
    });
  }
  jobs_.clear();
  rows_.resize(static_cast<size_t>(part.num_pairs));
  int32_t* row_at = rows_.data();
  for (const BatchPart::Run& run : part.runs) {
    const HeldExpertJob& job = work.batch.jobs[static_cast<size_t>(run.job)];
    const auto& expert = static_cast<const DeviceExpert&>(*job.expert);
    const size_t count = static_cast<size_t>(run.count);
    jobs_.push_back({&expert.layout(), expert.address(), {row_at, count}});
    for (const int32_t row : job.rows.subspan(static_cast<size_t>(run.begin), count))
      *row_at++ = row - part.first_row;
  }
  const std::span<std::byte> plan(reinterpret_cast<std::byte*>(side.pinned_in + layout.plan_at),
                                  plan_bytes);
  SHEAF_CHECK(kernels_.WritePlan(batch.shape, part.num_rows, jobs_, plan, batch.head).ok(),
              "the batch was cut to the shape, and its experts were held against it when loaded");
  batch.planes = side.in;
  batch.scales = side.in + layout.scales_at;
  batch.sums = side.in + layout.sums_at;
  batch.plan = side.in + layout.plan_at;
  batch.workspace = buffers_.workspace;
  batch.out = side.out;
  return batch;
}

absl::Status DeviceCompute::Return(float* out) {
  Work& work = work_.front();
  const DeviceBuffers::Side& side = SideOf(parts_returned_);
  SHEAF_CUDA_RETURN_IF_ERROR(device_, Synchronize(side.returned), work.what);
  if (out != nullptr) {
    CopyOut(work, work.parts[work.returned], reinterpret_cast<const float*>(side.pinned_out), out);
  }
  ++work.returned;
  ++parts_returned_;
  return absl::OkStatus();
}

void DeviceCompute::CopyOut(const Work& work, const BatchPart& part, const float* vectors,
                            float* out) {
  const size_t hidden = static_cast<size_t>(work.batch.x.k);
  std::vector<size_t> begins;
  size_t pair = 0;
  for (const BatchPart::Run& run : part.runs) {
    begins.push_back(pair);
    pair += static_cast<size_t>(run.count);
  }
  const ItemCost cost =
      CostOfElements(static_cast<int64_t>(pair * hidden / std::max<size_t>(1, part.runs.size())));
  pool_.ParallelFor(static_cast<int64_t>(part.runs.size()), cost, [&](int64_t i, int) {
    const BatchPart::Run& run = part.runs[static_cast<size_t>(i)];
    const size_t to =
        work.pairs_before[static_cast<size_t>(run.job)] + static_cast<size_t>(run.begin);
    std::memcpy(out + to * hidden, vectors + begins[static_cast<size_t>(i)] * hidden,
                sizeof(float) * hidden * static_cast<size_t>(run.count));
  });
}

}  // namespace sheaf

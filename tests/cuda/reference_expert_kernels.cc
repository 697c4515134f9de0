#include "tests/cuda/reference_expert_kernels.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "worker/device/device_memory_plan.h"

namespace sheaf::testing {
namespace {

using kernels::Linear;

// Calls visit(pointer member of `linear`, bytes) for each array of it.
template <typename Visit>
void VisitArrays(Linear& linear, const Visit& visit) {
  const auto integers = [&](auto& packed) {
    visit(packed.codes, packed.code_bytes());
    visit(packed.scales, packed.scale_count() * kernels::ScaleBytes(packed.scale_format));
    visit(packed.zeros, packed.scale_count());
    visit(packed.permutation, sizeof(int32_t) * static_cast<size_t>(packed.k));
  };
  if (linear.storage == Linear::Storage::kW4) {
    integers(linear.w4);
  } else if (linear.storage == Linear::Storage::kW8) {
    integers(linear.w8);
  } else {
    kernels::DenseMatrix& dense = linear.dense;
    visit(dense.data, static_cast<size_t>(dense.n) * static_cast<size_t>(dense.k) *
                          kernels::FloatBytes(dense.format));
    const int down = dense.n + dense.scales.first_row + dense.scales.block_rows - 1;
    visit(dense.scales.values, sizeof(float) * static_cast<size_t>(dense.scales.stride) *
                                   static_cast<size_t>(down / dense.scales.block_rows));
  }
  visit(linear.bias, sizeof(float) * static_cast<size_t>(linear.n()));
}

template <typename Visit>
void VisitArrays(kernels::ExpertWeights& weights, const Visit& visit) {
  for (Linear* linear : {&weights.gate, &weights.up, &weights.down}) VisitArrays(*linear, visit);
}

class Layout final : public DeviceExpertLayout {
 public:
  Layout(const kernels::ExpertWeights& weights, bool permuted)
      : weights_(weights), permuted_(permuted) {
    kernels::ExpertWeights copy = weights;
    VisitArrays(copy, [this](auto& array, size_t array_bytes) {
      if (array != nullptr) bytes_ += DeviceAligned(array_bytes);
    });
  }
  size_t bytes() const override { return bytes_; }
  int hidden() const override { return weights_.gate.k(); }
  int intermediate() const override { return weights_.gate.n(); }
  bool permuted() const override {
    return permuted_ || weights_.gate.permutation() != nullptr ||
           weights_.up.permutation() != nullptr || weights_.down.permutation() != nullptr;
  }
  // Its pointers say no more than whether there is an array.
  const kernels::ExpertWeights& weights() const { return weights_; }

 private:
  const kernels::ExpertWeights weights_;
  const bool permuted_;
  size_t bytes_ = 0;
};

struct PlannedJob {
  const DeviceExpertLayout* layout = nullptr;
  DeviceAddress expert;
  int32_t first_pair = 0;
  int32_t num_pairs = 0;
};

// At the plan's beginning; its copy on the host says what a launch serves at most.
struct PlanCounts {
  int32_t jobs = 0;
  int32_t pairs = 0;
};
static_assert(sizeof(PlanCounts) % alignof(PlannedJob) == 0);

PlanCounts Of(const DevicePlanHead& head) {
  PlanCounts counts;
  std::memcpy(&counts, head.bytes, sizeof(counts));
  return counts;
}

const Layout& Of(const DeviceExpertLayout& layout) { return static_cast<const Layout&>(layout); }

}  // namespace

absl::StatusOr<std::shared_ptr<const DeviceExpertLayout>> ReferenceExpertKernels::Plan(
    const kernels::ExpertWeights& weights) const {
  if (!options_.floats && !weights.gate.is_integer())
    return absl::UnimplementedError("float weights have no kernel for a device");
  const int number = ++planned_;
  return std::make_shared<const Layout>(
      weights, options_.permuted_from > 0 && number >= options_.permuted_from);
}

std::vector<DeviceUploadPiece> ReferenceExpertKernels::Pieces(
    const DeviceExpertLayout&, const kernels::ExpertWeights& weights, size_t most_bytes) const {
  std::vector<DeviceUploadPiece> pieces;
  size_t at = 0;
  kernels::ExpertWeights copy = weights;
  VisitArrays(copy, [&](auto& array, size_t bytes) {
    if (array == nullptr) return;
    const auto* const from = reinterpret_cast<const uint8_t*>(array);
    for (size_t done = 0; done < bytes; done += most_bytes)
      pieces.push_back({from + done, std::min(most_bytes, bytes - done), at + done, 0});
    at += DeviceAligned(bytes);
  });
  return pieces;
}

CudaError ReferenceExpertKernels::Arrived(const DeviceUploadPiece& piece, DeviceAddress expert,
                                          CudaStream stream) {
  return runtime_.Launch(stream, [this, bytes = piece.bytes, at = expert + piece.at] {
    uint8_t* const arrived = runtime_.Host(at, bytes);
    for (size_t i = 0; i < bytes; ++i) arrived[i] = static_cast<uint8_t>(~arrived[i]);
  });
}

size_t ReferenceExpertKernels::PlanBytes(const DeviceBatchShape& shape) const {
  return sizeof(PlanCounts) + sizeof(PlannedJob) * static_cast<size_t>(shape.jobs) +
         sizeof(int32_t) * static_cast<size_t>(shape.pairs);
}

size_t ReferenceExpertKernels::WorkspaceBytes(const DeviceBatchShape& shape) const {
  return sizeof(float) * static_cast<size_t>(shape.pairs) *
         static_cast<size_t>(shape.intermediate);
}

absl::Status ReferenceExpertKernels::WritePlan(const DeviceBatchShape& shape, int num_rows,
                                               std::span<const DeviceJob> jobs,
                                               std::span<std::byte> plan,
                                               DevicePlanHead& head) const {
  std::byte* job_at = plan.data() + sizeof(PlanCounts);
  std::byte* row_at = job_at + sizeof(PlannedJob) * static_cast<size_t>(shape.jobs);
  PlanCounts counts;
  for (const DeviceJob& job : jobs) {
    const PlannedJob planned{job.layout, job.expert, counts.pairs,
                             static_cast<int32_t>(job.rows.size())};
    SHEAF_CHECK(counts.jobs < shape.jobs && counts.pairs + planned.num_pairs <= shape.pairs,
                "a batch of its shape");
    for (const int32_t row : job.rows)
      SHEAF_CHECK(row >= 0 && row < num_rows, "rows of the part");
    std::memcpy(job_at, &planned, sizeof(planned));
    std::memcpy(row_at, job.rows.data(), job.rows.size_bytes());
    job_at += sizeof(planned);
    row_at += job.rows.size_bytes();
    ++counts.jobs;
    counts.pairs += planned.num_pairs;
  }
  std::memcpy(plan.data(), &counts, sizeof(counts));
  std::memcpy(head.bytes, &counts, sizeof(counts));
  return absl::OkStatus();
}

DevicePlanHead ReferenceExpertKernels::GraphHead(const DeviceBatchShape& shape,
                                                 const DevicePlanHead&) const {
  const PlanCounts counts{shape.jobs, shape.pairs};
  DevicePlanHead head;
  std::memcpy(head.bytes, &counts, sizeof(counts));
  return head;
}

bool ReferenceExpertKernels::Covers(const DevicePlanHead& graph, const DevicePlanHead& head) const {
  return Of(head).jobs <= Of(graph).jobs && Of(head).pairs <= Of(graph).pairs;
}

CudaError ReferenceExpertKernels::Run(const DeviceBatch& batch, CudaStream stream) {
  return runtime_.Launch(stream, [this, batch] { Compute(batch); });
}

void ReferenceExpertKernels::Compute(const DeviceBatch& batch) const {
  const auto at = [this](DeviceAddress address, size_t bytes) {
    const uint8_t* const found = runtime_.Host(address, bytes);
    SHEAF_CHECK(found != nullptr, "a kernel stays within allocations");
    return found;
  };
  const uint8_t* const plan = at(batch.plan, PlanBytes(batch.shape));
  PlanCounts counts;
  std::memcpy(&counts, plan, sizeof(counts));
  SHEAF_CHECK(counts.jobs <= Of(batch.head).jobs && counts.pairs <= Of(batch.head).pairs,
              "a launch serves its plan");
  const size_t rows = static_cast<size_t>(batch.shape.rows);
  const size_t groups = static_cast<size_t>(kernels::NumGroups(batch.shape.hidden));
  const size_t hidden = static_cast<size_t>(batch.shape.hidden);
  const size_t pairs = static_cast<size_t>(counts.pairs);
  kernels::QuantizedRows x;
  x.num_rows = batch.shape.rows;
  x.k = batch.shape.hidden;
  x.planes = reinterpret_cast<const int8_t*>(at(batch.planes, rows * groups * 256));
  x.scales = reinterpret_cast<const float*>(at(batch.scales, rows * groups * sizeof(float)));
  x.sums = reinterpret_cast<const int32_t*>(
      at(batch.sums, rows * groups * kernels::kSumsPerGroup * sizeof(int32_t)));
  auto* out = reinterpret_cast<float*>(runtime_.Host(batch.out, pairs * hidden * sizeof(float)));
  // What another part's kernel left or will write: a missing order shows.
  const size_t workspace = WorkspaceBytes(batch.shape);
  std::memset(runtime_.Host(batch.workspace, workspace), 0x7f, workspace);

  const uint8_t* const jobs = plan + sizeof(PlanCounts);
  const auto* indexes = reinterpret_cast<const int32_t*>(
      jobs + sizeof(PlannedJob) * static_cast<size_t>(batch.shape.jobs));
  std::vector<kernels::ExpertWeights> experts;
  experts.reserve(static_cast<size_t>(counts.jobs));
  std::vector<std::vector<uint8_t>> arrays;  // as they were in the file
  std::vector<kernels::ExpertJob> work;
  for (int32_t i = 0; i < counts.jobs; ++i) {
    PlannedJob job;
    std::memcpy(&job, jobs + sizeof(job) * static_cast<size_t>(i), sizeof(job));
    kernels::ExpertWeights& weights = experts.emplace_back(Of(*job.layout).weights());
    DeviceAddress array_at = job.expert;
    VisitArrays(weights, [&](auto& array, size_t bytes) {
      if (array == nullptr) return;
      const uint8_t* const turned = at(array_at, bytes);
      std::vector<uint8_t>& back = arrays.emplace_back(DeviceAligned(bytes));
      for (size_t j = 0; j < bytes; ++j) back[j] = static_cast<uint8_t>(~turned[j]);
      array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(back.data());
      array_at = array_at + DeviceAligned(bytes);
    });
    work.push_back({&weights,
                    {indexes + job.first_pair, static_cast<size_t>(job.num_pairs)},
                    out + static_cast<size_t>(job.first_pair) * hidden});
  }
  if (options_.fast) {
    ThreadPool alone(1);
    kernels::ExpertScratch scratch;
    kernels::RunExperts(alone, x, work, scratch);
    return;
  }
  for (const kernels::ExpertJob& job : work) kernels::ref::RunExpert(x, job);
}

}  // namespace sheaf::testing

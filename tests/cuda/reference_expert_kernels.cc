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
  explicit Layout(const kernels::ExpertWeights& weights) : weights_(weights) {
    kernels::ExpertWeights copy = weights;
    VisitArrays(copy, [this](auto& array, size_t array_bytes) {
      if (array != nullptr) bytes_ += DeviceAligned(array_bytes);
    });
  }
  size_t bytes() const override { return bytes_; }
  int hidden() const override { return weights_.gate.k(); }
  int intermediate() const override { return weights_.gate.n(); }
  // Its pointers say no more than whether there is an array.
  const kernels::ExpertWeights& weights() const { return weights_; }

 private:
  const kernels::ExpertWeights weights_;
  size_t bytes_ = 0;
};

const Layout& Of(const DeviceExpertLayout& layout) { return static_cast<const Layout&>(layout); }

}  // namespace

absl::StatusOr<std::shared_ptr<const DeviceExpertLayout>> ReferenceExpertKernels::Plan(
    const kernels::ExpertWeights& weights) const {
  if (!options_.floats && !weights.gate.is_integer())
    return absl::UnimplementedError("float weights have no kernel for a device");
  return std::make_shared<const Layout>(weights);
}

std::vector<DeviceUploadPiece> ReferenceExpertKernels::Pieces(
    const DeviceExpertLayout&, const kernels::ExpertWeights& weights, size_t max_bytes) const {
  std::vector<DeviceUploadPiece> pieces;
  uint64_t at = 0;
  kernels::ExpertWeights copy = weights;
  VisitArrays(copy, [&](auto& array, size_t bytes) {
    if (array == nullptr) return;
    const auto* const from = reinterpret_cast<const uint8_t*>(array);
    for (size_t done = 0; done < bytes; done += max_bytes)
      pieces.push_back({from + done, std::min(max_bytes, bytes - done), at + done});
    at += DeviceAligned(bytes);
  });
  return pieces;
}

CudaError ReferenceExpertKernels::Place(const DeviceExpertLayout&, const DeviceUploadPiece& piece,
                                        DeviceAddress staged, DeviceAddress at,
                                        CudaStream stream) {
  return runtime_.Launch(stream, [this, bytes = piece.bytes, to = at + piece.place, staged] {
    std::memcpy(runtime_.Host(to, bytes), runtime_.Host(staged, bytes), bytes);
  });
}

size_t ReferenceExpertKernels::JobBytes(int num_jobs) const {
  return sizeof(DeviceJob) * static_cast<size_t>(num_jobs);
}

void ReferenceExpertKernels::WriteJobs(std::span<const DeviceJob> jobs, void* table) const {
  std::memcpy(table, jobs.data(), jobs.size_bytes());
}

size_t ReferenceExpertKernels::WorkspaceBytes(int num_pairs, int intermediate) const {
  return sizeof(float) * static_cast<size_t>(num_pairs) * static_cast<size_t>(intermediate);
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
  const size_t rows = static_cast<size_t>(batch.num_rows);
  const size_t groups = static_cast<size_t>(kernels::NumGroups(batch.hidden));
  const size_t hidden = static_cast<size_t>(batch.hidden);
  const size_t pairs = static_cast<size_t>(batch.num_pairs);
  kernels::QuantizedRows x;
  x.num_rows = batch.num_rows;
  x.k = batch.hidden;
  x.planes = reinterpret_cast<const int8_t*>(at(batch.planes, rows * groups * 256));
  x.scales = reinterpret_cast<const float*>(at(batch.scales, rows * groups * sizeof(float)));
  x.sums = reinterpret_cast<const int32_t*>(
      at(batch.sums, rows * groups * kernels::kSumsPerGroup * sizeof(int32_t)));
  const auto* indexes = reinterpret_cast<const int32_t*>(at(batch.rows, pairs * sizeof(int32_t)));
  auto* out = reinterpret_cast<float*>(runtime_.Host(batch.out, pairs * hidden * sizeof(float)));
  // What another part's kernel left or will write: a missing order shows.
  const size_t workspace = WorkspaceBytes(batch.num_pairs, batch.intermediate);
  std::memset(runtime_.Host(batch.workspace, workspace), 0x7f, workspace);

  std::vector<DeviceJob> jobs(static_cast<size_t>(batch.num_jobs));
  std::memcpy(jobs.data(), at(batch.jobs, JobBytes(batch.num_jobs)), JobBytes(batch.num_jobs));
  std::vector<kernels::ExpertWeights> experts;
  experts.reserve(jobs.size());
  std::vector<kernels::ExpertJob> work;
  for (const DeviceJob& job : jobs) {
    kernels::ExpertWeights& weights = experts.emplace_back(Of(*job.layout).weights());
    DeviceAddress array_at = job.expert;
    VisitArrays(weights, [&](auto& array, size_t bytes) {
      if (array == nullptr) return;
      array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(at(array_at, bytes));
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

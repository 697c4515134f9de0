#include "exchange/cpu_experts.h"

namespace sheaf {
namespace {

constexpr int kRowsWorthThreads = 32;

}  // namespace

absl::Status CpuExpertCompute::Submit(const ExpertBatch& batch) {
  batch_ = batch;
  return absl::OkStatus();
}

absl::Status CpuExpertCompute::Complete(float* out) {
  kernels::QuantizedRows x = batch_.x;
  jobs_.clear();
  for (const HeldExpertJob& job : batch_.jobs) {
    jobs_.push_back({&static_cast<const CpuExpert*>(job.expert)->weights(), job.rows, out});
    out += job.rows.size() * static_cast<size_t>(x.k);
  }
  if (x.sums == nullptr) {
    const size_t sums_a_row = x.sums_a_row();
    sums_.resize(sums_a_row * static_cast<size_t>(x.num_rows));
    const auto sum = [&](int64_t row) {
      kernels::SumRow(x.bits, x.row_planes(static_cast<int>(row)), x.k,
                      sums_.data() + sums_a_row * static_cast<size_t>(row));
    };
    if (x.num_rows < kRowsWorthThreads) {
      for (int row = 0; row < x.num_rows; ++row) sum(row);
    } else {
      pool_.ParallelFor(x.num_rows, [&](int64_t row, int) { sum(row); });
    }
    x.sums = sums_.data();
  }
  kernels::RunExperts(pool_, x, jobs_, scratch_);
  return absl::OkStatus();
}

CpuExperts::CpuExperts(int num_layers, int num_experts,
                       absl::FunctionRef<const kernels::ExpertWeights*(LayerId, ExpertId)> find)
    : num_layers_(num_layers), num_experts_(num_experts) {
  experts_.reserve(static_cast<size_t>(num_layers) * static_cast<size_t>(num_experts));
  for (int layer = 0; layer < num_layers; ++layer) {
    for (int expert = 0; expert < num_experts; ++expert)
      experts_.emplace_back(find(LayerId(layer), ExpertId(expert)));
  }
}

HeldExpertPtr CpuExperts::Find(LayerId layer, ExpertId expert) const {
  if (layer.value() < 0 || layer.value() >= num_layers_ || expert.value() < 0 ||
      expert.value() >= num_experts_) {
    return nullptr;
  }
  const Borrowed& found =
      experts_[static_cast<size_t>(layer.value()) * static_cast<size_t>(num_experts_) +
               static_cast<size_t>(expert.value())];
  return found.held() ? HeldExpertPtr(HeldExpertPtr(), &found) : nullptr;
}

std::unique_ptr<ExpertCompute> CpuExperts::NewCompute(ThreadPool& pool) const {
  return std::make_unique<CpuExpertCompute>(pool);
}

HeldExpertPtr CpuExperts::Borrow(const kernels::ExpertWeights& weights) const {
  return std::make_shared<Borrowed>(&weights);
}

}  // namespace sheaf

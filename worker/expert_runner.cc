#include "worker/expert_runner.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr int kRowsWorthThreads = 32;

}  // namespace

ExpertRunner::ExpertRunner(const ExpertSource& source, ThreadPool& pool, WorkerId self)
    : source_(source), pool_(pool), self_(self) {}

absl::StatusOr<Answer> ExpertRunner::Run(const ReceivedDispatch& dispatch,
                                         ReplyMemory reply_memory) {
  if (const absl::Status planned = PlanJobs(dispatch); !planned.ok()) {
    const std::string text = std::string(planned.message()).substr(0, kMaxErrorTextBytes);
    SHEAF_ASSIGN_OR_RETURN(const std::span<uint8_t> reply, reply_memory(text.size()));
    std::copy(text.begin(), text.end(), reply.begin());
    return Answer{ErrorHeaderFor(dispatch.header, self_, text.size()), false};
  }
  const FrameHeader header = CombineHeaderFor(dispatch.header, self_);
  SHEAF_ASSIGN_OR_RETURN(const std::span<uint8_t> combine, reply_memory(header.payload_bytes));
  Compute(dispatch.header, combine);
  return Answer{header, true};
}

absl::Status ExpertRunner::PlanJobs(const ReceivedDispatch& dispatch) {
  SHEAF_RETURN_IF_ERROR(DecodeDispatch(dispatch.header, dispatch.payload, view_));
  const LayerId layer = dispatch.header.layer;
  // Before anything is computed: every expert is here and fits.
  jobs_.clear();
  size_t pair = 0;
  for (const ExpertRun& run : view_.experts) {
    const kernels::ExpertWeights* weights = source_.Find(layer, ExpertId(run.expert));
    if (weights == nullptr) {
      return absl::NotFoundError(absl::StrFormat("layer %d, expert %d is not in worker %d's slice",
                                                 layer.value(), run.expert, self_.value()));
    }
    if (weights->gate.k() != view_.x.k) {
      return absl::InvalidArgumentError(
          absl::StrFormat("layer %d, expert %d: hidden size: wanted %d, got %d", layer.value(),
                          run.expert, weights->gate.k(), view_.x.k));
    }
    jobs_.push_back(
        {weights, view_.rows.subspan(pair, static_cast<size_t>(run.num_rows)), nullptr});
    pair += static_cast<size_t>(run.num_rows);
  }
  return absl::OkStatus();
}

void ExpertRunner::Compute(const FrameHeader& header, std::span<uint8_t> combine) {
  float* out = reinterpret_cast<float*>(combine.data());
  for (kernels::ExpertJob& job : jobs_) {
    job.out = out;
    out += job.rows.size() * header.hidden;
  }

  const size_t sums_a_row = static_cast<size_t>(view_.x.groups()) * kernels::kSumsPerGroup;
  sums_.resize(sums_a_row * static_cast<size_t>(view_.x.num_rows));
  const auto sum = [&](int64_t row) {
    kernels::SumRow(view_.x.row_planes(static_cast<int>(row)), view_.x.k,
                    sums_.data() + sums_a_row * static_cast<size_t>(row));
  };
  if (view_.x.num_rows < kRowsWorthThreads) {
    for (int row = 0; row < view_.x.num_rows; ++row) sum(row);
  } else {
    pool_.ParallelFor(view_.x.num_rows, [&](int64_t row, int) { sum(row); });
  }
  view_.x.sums = sums_.data();
  kernels::RunExperts(pool_, view_.x, jobs_, scratch_);
}

}  // namespace sheaf

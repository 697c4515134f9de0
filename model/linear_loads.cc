#include "model/linear_loads.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/status.h"
#include "model/formats/tensor_checks.h"
#include "model/load_tracker.h"

namespace sheaf {

absl::Status LinearLoads::Add(const NamedLinear& linear, const LinearSlice& slice,
                              LoadedLinear& out) {
  SHEAF_ASSIGN_OR_RETURN(LinearPlan plan, PlanNamedLinear(checkpoint_, hints_, linear));
  Add(std::move(plan), slice, out);
  return absl::OkStatus();
}

void LinearLoads::Add(LinearPlan plan, const LinearSlice& slice, LoadedLinear& out) {
  Job& job = jobs_.emplace_back();
  job.plan = std::move(plan);
  job.slice = slice;
  job.out = &out;
}

absl::Status LinearLoads::AddPlain(const std::string& tensor, int n, int k,
                                   const LinearSlice& slice, LoadedLinear& out) {
  SHEAF_ASSIGN_OR_RETURN(LinearPlan plan, PlanPlain(checkpoint_, tensor, n, k));
  Add(std::move(plan), slice, out);
  return absl::OkStatus();
}

absl::Status LinearLoads::AddConverted(const NamedLinear& linear, const LinearSlice& slice,
                                       Convert convert) {
  Job job;
  SHEAF_ASSIGN_OR_RETURN(job.plan, PlanNamedLinear(checkpoint_, hints_, linear));
  job.slice = slice;
  job.convert = std::move(convert);
  jobs_.push_back(std::move(job));
  return absl::OkStatus();
}

absl::Status LinearLoads::Run(const Job& job, LoadScratch& scratch) const {
  job.plan.WillNeed(checkpoint_);
  if (job.out != nullptr) {
    SHEAF_ASSIGN_OR_RETURN(*job.out,
                           LoadPlannedLinear(checkpoint_, job.plan, job.slice, arena_, scratch));
    return absl::OkStatus();
  }
  // An arena of its own: the shared one lives as long as the model.
  SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<PackedArena> passing,
                         PackedArena::Reserve(MaxArenaBytes(job.plan, job.slice)));
  SHEAF_ASSIGN_OR_RETURN(const LoadedLinear loaded,
                         LoadPlannedLinear(checkpoint_, job.plan, job.slice, passing, scratch));
  return job.convert(loaded.view());
}

absl::Status LinearLoads::Load(ThreadPool& pool, const LoadProgress& progress) {
  size_t arena_bytes = 0, total_bytes = 0;
  for (const Job& job : jobs_) {
    if (job.out != nullptr) arena_bytes += MaxArenaBytes(job.plan, job.slice);
    total_bytes += job.plan.file_bytes();
  }
  SHEAF_ASSIGN_OR_RETURN(arena_, PackedArena::Reserve(arena_bytes));
  // One thread reads a whole matrix: with an embedding as the last, the others would wait for it.
  std::vector<size_t> order(jobs_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return jobs_[a].plan.file_bytes() > jobs_[b].plan.file_bytes();
  });
  std::vector<LoadScratch> scratch(static_cast<size_t>(pool.num_threads()));
  LoadTracker tracker(total_bytes, progress);
  pool.ParallelFor(static_cast<int64_t>(order.size()), [&](int64_t item, int thread) {
    if (tracker.failed()) return;
    const size_t at = order[static_cast<size_t>(item)];
    if (const absl::Status status = Run(jobs_[at], scratch[static_cast<size_t>(thread)]);
        !status.ok()) {
      tracker.Fail(at, status);
    } else {
      tracker.Done(jobs_[at].plan.file_bytes());
    }
  });
  return tracker.status();
}

}  // namespace sheaf

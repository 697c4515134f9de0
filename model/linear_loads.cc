#include "model/linear_loads.h"

#include <utility>

#include "base/status.h"
#include "model/formats/tensor_checks.h"
#include "model/load_tracker.h"

namespace sheaf {

absl::Status LinearLoads::Add(const NamedLinear& linear, const LinearSlice& slice,
                              LoadedLinear& out) {
  Job job;
  SHEAF_ASSIGN_OR_RETURN(job.plan,
                         PlanLinear(checkpoint_, hints_, linear.prefix, linear.n, linear.k));
  job.slice = slice;
  job.out = &out;
  jobs_.push_back(std::move(job));
  return absl::OkStatus();
}

absl::Status LinearLoads::AddConverted(const NamedLinear& linear, const LinearSlice& slice,
                                       Convert convert) {
  Job job;
  SHEAF_ASSIGN_OR_RETURN(job.plan,
                         PlanLinear(checkpoint_, hints_, linear.prefix, linear.n, linear.k));
  if (job.plan.bias != nullptr) return TensorError(*job.plan.bias, "no bias here", "one");
  job.slice = slice;
  job.convert = std::move(convert);
  jobs_.push_back(std::move(job));
  return absl::OkStatus();
}

absl::Status LinearLoads::RequireBias() const {
  const LinearPlan& plan = jobs_.back().plan;
  if (plan.bias != nullptr) return absl::OkStatus();
  return RequireTensor(checkpoint_, plan.prefix + ".bias").status();
}

absl::Status LinearLoads::Run(const Job& job, const std::shared_ptr<PackedArena>& arena) const {
  job.plan.ForEachTensor([&](const TensorInfo& tensor) { checkpoint_.WillNeed(tensor); });
  if (job.out != nullptr) {
    SHEAF_ASSIGN_OR_RETURN(*job.out, LoadPlannedLinear(checkpoint_, job.plan, job.slice, arena));
    return absl::OkStatus();
  }
  // An arena of its own: the shared one lives as long as the model.
  SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<PackedArena> passing,
                         PackedArena::Reserve(MaxArenaBytes(job.plan, job.slice)));
  SHEAF_ASSIGN_OR_RETURN(const LoadedLinear loaded,
                         LoadPlannedLinear(checkpoint_, job.plan, job.slice, passing));
  return job.convert(loaded.view());
}

absl::Status LinearLoads::Load(ThreadPool& pool, const LoadProgress& progress) {
  size_t arena_bytes = 0, total_bytes = 0;
  for (const Job& job : jobs_) {
    if (job.out != nullptr) arena_bytes += MaxArenaBytes(job.plan, job.slice);
    total_bytes += job.plan.file_bytes();
  }
  SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<PackedArena> arena,
                         PackedArena::Reserve(arena_bytes));
  LoadTracker tracker(total_bytes, progress);
  pool.ParallelFor(static_cast<int64_t>(jobs_.size()), [&](int64_t item, int) {
    if (tracker.failed()) return;
    const Job& job = jobs_[static_cast<size_t>(item)];
    const absl::Status status = Run(job, arena);
    if (!status.ok()) {
      tracker.Fail(static_cast<size_t>(item), status);
    } else {
      tracker.Done(job.plan.file_bytes());
    }
  });
  return tracker.status();
}

}  // namespace sheaf

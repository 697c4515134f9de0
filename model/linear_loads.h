#pragma once
// LinearLoads: Linears that are planned one by one, then loaded together over a pool into one arena.
//
// Ownership  borrows checkpoint and hints; `out` pointers must stay valid until Load returns.
// Threads    Add on one thread; Load uses the pool.
// Errors     Add: those of model/linear_plan.h. Load: those of model/linear_loader.h and of the
//            finishing steps, the first one.

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/thread_pool.h"
#include "model/checkpoint.h"
#include "model/expert_slice.h"
#include "model/linear_loader.h"
#include "model/model_layout.h"

namespace sheaf {

class LinearLoads {
 public:
  LinearLoads(const Checkpoint& checkpoint, const QuantizationHints& hints)
      : checkpoint_(checkpoint), hints_(hints) {}

  absl::Status Add(const NamedLinear& linear, const LinearSlice& slice, LoadedLinear& out);

  // A Linear that is kept in another form: `convert` gets it once, on some thread, after which its
  // memory is freed. It must have no bias.
  using Convert = std::function<absl::Status(const kernels::Linear&)>;
  absl::Status AddConverted(const NamedLinear& linear, const LinearSlice& slice, Convert convert);

  // Of the last one added.
  absl::Status RequireBias() const;
  void DropBias() { jobs_.back().plan.bias = nullptr; }

  absl::Status Load(ThreadPool& pool, const LoadProgress& progress);

  const Checkpoint& checkpoint() const { return checkpoint_; }

 private:
  struct Job {
    LinearPlan plan;
    LinearSlice slice;
    LoadedLinear* out = nullptr;
    Convert convert;  // instead of out
  };

  absl::Status Run(const Job& job, const std::shared_ptr<PackedArena>& arena) const;

  const Checkpoint& checkpoint_;
  const QuantizationHints& hints_;
  std::vector<Job> jobs_;
};

}  // namespace sheaf

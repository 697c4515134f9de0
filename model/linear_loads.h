#pragma once
// LinearLoads: Linears that are planned one by one, then loaded together over a pool into one
// arena.
//
// Ownership  borrows checkpoint and hints; `out` pointers must stay valid until Load returns.
// Threads    Add on one thread; Load uses the pool.
// Errors     Add: those of model/linear_plan.h. Load: those of model/linear_loader.h and of the
//            finishing steps, the first one.

#include <functional>
#include <memory>
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
  void Add(LinearPlan plan, const LinearSlice& slice, LoadedLinear& out);

  // A plain matrix [n][k] by the name of its tensor.
  absl::Status AddPlain(const std::string& tensor, int n, int k, const LinearSlice& slice,
                        LoadedLinear& out);

  // A Linear that is kept in another form: `convert` gets it once, on some thread, after which its
  // memory is freed. Its bias must be forbidden.
  using Convert = std::function<absl::Status(const kernels::Linear&)>;
  absl::Status AddConverted(const NamedLinear& linear, const LinearSlice& slice, Convert convert);

  // Reads all of them, the largest first.
  absl::Status Load(ThreadPool& pool, const LoadProgress& progress);

  // What holds the memory of everything loaded.
  const std::shared_ptr<PackedArena>& arena() const { return arena_; }

  const Checkpoint& checkpoint() const { return checkpoint_; }

 private:
  struct Job {
    LinearPlan plan;
    LinearSlice slice;
    LoadedLinear* out = nullptr;
    Convert convert;  // instead of out
  };

  absl::Status Run(const Job& job, LoadScratch& scratch) const;

  const Checkpoint& checkpoint_;
  const QuantizationHints& hints_;
  std::vector<Job> jobs_;
  std::shared_ptr<PackedArena> arena_;
};

}  // namespace sheaf

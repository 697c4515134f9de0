#pragma once
// DispatchPlan: from the routes of a batch and the chosen holder of each expert to what each worker
// gets and where its answers go. Pure: no I/O, no clock, no threads.
//
// Example, 3 tokens, top_k 2, experts 0-1 on worker 0 and 2-3 on worker 1:
//   routes   t0: 0 2   t1: 2 3   t2: 0 1
//   worker 0 token_rows 0 2   runs e0 x {0,1}, e1 x {1}        slots 0 4 5
//   worker 1 token_rows 0 1   runs e2 x {0,1}, e3 x {1}        slots 1 2 3
// A slot is token * top_k + position in the token's route. Within a worker pairs are in ascending
// (expert, token) order: the order of the combine's float vectors.
//
// Every slot is planned exactly once; not at all when `done` says that its answer is there already
// or when its expert has no holder (-1): that is how what is missing is planned again by itself.
// Errors     kInvalidArgument: an expert id outside the layer.
// Cost       two passes over the routes; memory of the plan is reused from call to call.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "base/ids.h"
#include "exchange/wire/worker_plan.h"

namespace sheaf {

// One layer's routes of consecutive tokens; views.
struct Routes {
  LayerId layer;
  int num_tokens = 0;
  int top_k = 0;
  const int32_t* expert_ids = nullptr;  // [num_tokens][top_k]
};

class DispatchPlan {
 public:
  // Workers that get at least one pair, by ascending id.
  std::span<const WorkerPlan> workers() const { return {workers_.data(), num_workers_}; }

 private:
  friend absl::Status PlanDispatch(const Routes&, std::span<const WorkerId>,
                                   std::span<const uint8_t>, DispatchPlan&);
  friend class LayerMachine;  // takes finished plans by swapping
  std::vector<WorkerPlan> workers_;  // only the first num_workers_ count; the rest is memory kept
  size_t num_workers_ = 0;
  // Scratch.
  std::vector<int32_t> plan_of_worker_;
  std::vector<int32_t> last_token_;
  std::vector<int32_t> expert_cursor_;
  std::vector<int32_t> expert_count_;
};

// holder_of_expert [num_experts of the layer]: whom to ask, -1 = nobody. `done`
// [num_tokens * top_k] marks slots to leave out; empty = none.
absl::Status PlanDispatch(const Routes& routes, std::span<const WorkerId> holder_of_expert,
                          std::span<const uint8_t> done, DispatchPlan& plan);

}  // namespace sheaf

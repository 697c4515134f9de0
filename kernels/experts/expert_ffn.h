#pragma once
// Routed experts: out = down(silu(gate x) * up x) for every (token, expert) pair of a layer,
// several experts in one call.
//
// Input rows are the groups that the router quantized; the inner activations are quantized again to
// as many bits before `down`. No weighting here: one float32 vector per (token, expert),
// so that the router can add them in expert order whatever worker they came from.
//
// Shapes     x [tokens][hidden]; job.rows indexes x; job.out [rows.size()][hidden], row stride
//            hidden floats.
// Numbers    as kernels/linear/linear.h and kernels/vector/silu_mul.h; independent of the other
//            jobs, threads and target. Float-stored experts read DequantizeRow(x).
// Threads    splits outputs and rows of the experts over the pool (expert_split.h), the largest
//            expert first: two loops with one barrier.
// Cost       reads each touched expert's bytes once from memory, once per 12 rows from the cache;
//            scratch = two bytes per row and inner activation.

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf::kernels {

struct ExpertWeights {
  Linear gate;  // [intermediate][hidden]
  Linear up;    // [intermediate][hidden]
  Linear down;  // [hidden][intermediate]
};

struct ExpertJob {
  const ExpertWeights* weights = nullptr;
  std::span<const int32_t> rows;  // of x
  float* out = nullptr;
};

// Whether RunExperts takes it into its two loops with others of the same widths (integers, inputs
// in file order). What does not runs after them, from DequantizeRow(x).
bool RunsWithOthers(const ExpertWeights& weights);

// Scratch memory, reused from call to call; one per calling thread.
class ExpertScratch {
 public:
  QuantizedRowsBuffer inner_quantized;  // silu(gate) * up of all integer experts' rows
  // Of integer experts where several items share a group: silu(gate) * up; items that ended.
  std::vector<float> inner;
  std::vector<int> parts_done;
  // For experts with float weights or permuted inputs, which run one after the other.
  QuantizedRowsBuffer gathered;    // the expert's rows of x
  std::vector<float> gate_and_up;  // gate, then silu(gate) * up; up
};

void RunExperts(ThreadPool& pool, const QuantizedRows& x, std::span<const ExpertJob> jobs,
                ExpertScratch& scratch);

namespace ref {
void RunExpert(const QuantizedRows& x, const ExpertJob& job);
}  // namespace ref

}  // namespace sheaf::kernels

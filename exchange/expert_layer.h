#pragma once
// ExpertLayer is the seam between attention and experts: quantized hidden rows and routes in, the
// weighted sum of the routed experts' outputs out, wherever the experts live (this process, or
// workers behind the exchange).
//
//   sum[t] = w(t,e1) f_e1(x_t) + w(t,e2) f_e2(x_t) + ...   added with fma in ascending expert id,
//   starting from 0
//
// Begin() posts the work, the caller computes the shared expert meanwhile, Finish() waits and adds
// up. A layer that computes the routed experts in this process may take the shared one into their
// loops (TakeShared): two loops of the pool instead of five.
//
// Shapes     x: rows quantized once by the caller; expert_ids, weights [num_rows][top_k], ids
//            ascending in a row; sum [num_rows][hidden].
// Ownership  the batch's views and the shared expert stay valid until Finish() returns.
// Threads    the step thread only. One batch in flight.
// Errors     kUnavailable: the step is given up, because nobody holds an expert that it needs or
//            nobody answers (names layer, expert, workers). Nothing has changed: the same step may
//            be run again when somebody is there. kAborted: given up because give_up() said so.
//            After an error the sum is undefined; nothing is silently skipped.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "base/ids.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf {

namespace kernels {
struct ExpertWeights;
}

// Tokens that an expert layer takes at once; more go in parts, one after the other. What bounds it
// is the memory of the experts' vectors, kExpertChunkTokens * top_k * hidden * 4 bytes in all (335
// MB of GLM-4.6, 403 MB of GLM-5.1; an eighth more where the shared expert is among them). Each
// part reads every expert that it needs, which in a long prefill is all of them, so a part should
// be a whole step (--max-num-batched-tokens).
inline constexpr int kExpertChunkTokens = 2048;

struct RoutedBatch {
  StepId step;
  LayerId layer;
  kernels::QuantizedRows x;
  int top_k = 0;
  const int32_t* expert_ids = nullptr;
  const float* weights = nullptr;
};

class ExpertLayer {
 public:
  virtual ~ExpertLayer() = default;
  virtual absl::Status Begin(const RoutedBatch& batch) = 0;
  // Between Begin and Finish. True: Finish adds what this expert makes of each row to its sum,
  // last. For experts of the routed ones' widths that kernels::RunsWithOthers.
  virtual bool TakeShared(const kernels::ExpertWeights& /*shared*/) { return false; }
  virtual absl::Status Finish(float* sum) = 0;
};

}  // namespace sheaf

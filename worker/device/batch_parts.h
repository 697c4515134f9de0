#pragma once
// A batch cut into parts that fit a device's buffers: consecutive tokens, with what each job has to
// do for them. Rows of a job ascend, so a part's pairs of one job lie together, in the job and in
// its output.
//
// Pure. Cost  of the pairs. Wants no token with more pairs than a part may have.

#include <vector>

#include "exchange/expert_compute.h"

namespace sheaf {

struct BatchPart {
  struct Run {
    int job = 0;    // of the batch
    int begin = 0;  // in job.rows
    int count = 0;  // >= 1
  };
  int first_row = 0;  // of x
  int num_rows = 0;
  int num_pairs = 0;
  std::vector<Run> runs;  // ascending job
};

// None for a batch without pairs. Tokens that no job reads may be left out.
std::vector<BatchPart> CutBatch(const ExpertBatch& batch, int most_rows, int most_pairs);

}  // namespace sheaf

#pragma once
// WorkerPlan: what one worker gets of a layer: which rows of the batch travel, which expert reads
// which of them, and which slot of the batch each answer belongs to.
//
// Within a worker pairs are in ascending (expert, token) order: the order of the combine's vectors.
// A slot is token * top_k + position in the token's route.

#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace sheaf {

struct ExpertRun {
  int32_t expert = 0;
  int32_t num_rows = 0;
  friend bool operator==(const ExpertRun&, const ExpertRun&) = default;
};

struct WorkerPlan {
  WorkerId worker;
  std::vector<int32_t> token_rows;  // of the batch: the unique tokens that travel, ascending
  std::vector<ExpertRun> experts;   // ascending expert id, num_rows >= 1
  // [pairs] index into token_rows, expert by expert, ascending in an expert.
  std::vector<int32_t> rows;
  std::vector<int32_t> slots;  // [pairs] token * top_k + k

  int num_pairs() const { return static_cast<int>(rows.size()); }
};

}  // namespace sheaf

#pragma once
// The best positions of all ranks, of what each found best among those that it keeps.
//
// Order      that of kernels/attention/top_positions.h over all scores at once: whatever is among
//            the best of all is among the best of its rank.
// Shapes     a rank's candidates of a row: min(topk, positions it keeps of what the row sees),
//            ascending by position.
// Threads    pure; one MergeScratch a thread.
// Errors     AddCandidates: false where they are not such positions; they come from another
//            process.
// Cost       O(candidates * log ranks), and a selection.

#include <cstdint>
#include <span>
#include <vector>

#include "router/attention/latent/kept_slots.h"

namespace sheaf {

struct PositionCandidate {
  float score = 0;
  int32_t position = 0;
};

struct MergeScratch {
  std::vector<PositionCandidate> candidates;
  std::vector<size_t> ends = {0};  // of each rank's
  std::vector<float> scores;

  void Clear() {
    candidates.clear();
    ends.assign(1, 0);
  }
};

// Of the next rank, which keeps `slots`, for a row at `last_position`. `bytes`: PositionCandidates.
bool AddCandidates(std::span<const uint8_t> bytes, const KeptSlots& slots, int last_position,
                   MergeScratch& scratch);
// positions: [topk], ascending. At least so many were added.
void BestOfCandidates(int topk, MergeScratch& scratch, int32_t* positions);

}  // namespace sheaf

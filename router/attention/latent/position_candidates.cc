#include "router/attention/latent/position_candidates.h"

#include <algorithm>
#include <cstring>

#include "kernels/attention/top_positions.h"

namespace sheaf {

bool AddCandidates(std::span<const uint8_t> bytes, const KeptSlots& slots, int last_position,
                   MergeScratch& scratch) {
  std::vector<PositionCandidate>& all = scratch.candidates;
  const size_t first = all.size();
  all.resize(first + bytes.size() / sizeof(PositionCandidate));
  if (!bytes.empty()) std::memcpy(all.data() + first, bytes.data(), bytes.size());
  scratch.ends.push_back(all.size());
  int32_t before = -1;
  for (size_t i = first; i < all.size(); ++i) {
    const int32_t position = all[i].position;
    if (position <= before || position > last_position || !slots.Has(position)) return false;
    before = position;
  }
  return true;
}

void BestOfCandidates(int topk, MergeScratch& scratch, int32_t* positions) {
  std::vector<PositionCandidate>& all = scratch.candidates;
  const size_t num_parts = scratch.ends.size() - 1;
  const auto by_position = [](const PositionCandidate& a, const PositionCandidate& b) {
    return a.position < b.position;
  };
  const auto at = [&](size_t part) {
    return all.begin() + static_cast<ptrdiff_t>(scratch.ends[std::min(part, num_parts)]);
  };
  for (size_t width = 1; width < num_parts; width *= 2) {
    for (size_t part = 0; part + width < num_parts; part += 2 * width)
      std::inplace_merge(at(part), at(part + width), at(part + 2 * width), by_position);
  }
  scratch.scores.resize(all.size());
  for (size_t i = 0; i < all.size(); ++i) scratch.scores[i] = all[i].score;
  kernels::TopPositions(scratch.scores.data(), static_cast<int>(all.size()), topk, positions);
  for (int i = 0; i < topk; ++i) positions[i] = all[static_cast<size_t>(positions[i])].position;
}

}  // namespace sheaf

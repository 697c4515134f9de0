#pragma once
// KeptSlots: which positions of every cache block a rank keeps, where ranks share a cache by
// position.
//
// A block of B positions is cut into the ranks' consecutive slots, so that the block table is one
// for all ranks and each has its part of every sequence however long that is. A rank's pool is one
// of smaller blocks, in which the positions that it keeps have numbers of their own: local ones,
// ascending with the others.
//
// Threads    pure.

#include <algorithm>
#include <cstdint>
#include <vector>

namespace sheaf {

struct KeptSlots {
  int block_size = 0;  // positions
  int first = 0;
  int count = 0;  // of a block; 0 where there are more ranks than slots

  bool Has(int position) const {
    const int slot = position % block_size;
    return slot >= first && slot < first + count;
  }
  // Of 0 .. positions - 1, how many it keeps.
  int Count(int positions) const {
    return positions / block_size * count + std::clamp(positions % block_size - first, 0, count);
  }
  // Of one that it keeps.
  int LocalOf(int position) const {
    return position / block_size * count + position % block_size - first;
  }
  int PositionOf(int local) const { return local / count * block_size + first + local % count; }
};

inline KeptSlots SlotsOfRank(int block_size, int rank, int num_ranks) {
  const auto edge = [&](int r) { return static_cast<int>(int64_t{block_size} * r / num_ranks); };
  return {block_size, edge(rank), edge(rank + 1) - edge(rank)};
}
// Ascending.
inline std::vector<KeptSlots> SlotsOfRanks(int block_size, int num_ranks) {
  std::vector<KeptSlots> slots;
  for (int rank = 0; rank < num_ranks; ++rank)
    slots.push_back(SlotsOfRank(block_size, rank, num_ranks));
  return slots;
}

}  // namespace sheaf

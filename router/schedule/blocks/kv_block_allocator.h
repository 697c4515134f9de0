#pragma once
// KvBlockAllocator: who owns which block of the KV cache. A fixed number of blocks, each free or
// owned once.
//
// Deterministic: fresh blocks in ascending order, and the block freed last is given out first (it
// is warm, and the cache's memory stays as small as the load).
//
// Threads    the step thread only. Cost  O(blocks moved).
// Errors     Allocate fails as a whole when too few blocks are free. Freeing a block twice ends the
//            process: it would mix two users' contexts.

#include <cstdint>
#include <span>
#include <vector>

namespace sheaf {

class KvBlockAllocator {
 public:
  explicit KvBlockAllocator(int num_blocks);

  int num_blocks() const { return static_cast<int>(in_use_.size()); }
  int num_free() const { return static_cast<int>(free_.size()); }

  // Appends `count` block ids to `blocks`, or changes nothing and returns false.
  [[nodiscard]] bool Allocate(int count, std::vector<int32_t>& blocks);

  // Gives back all of `blocks` and empties it.
  void Free(std::vector<int32_t>& blocks);

 private:
  std::vector<int32_t> free_;  // the next one is at the back
  std::vector<bool> in_use_;
};

}  // namespace sheaf

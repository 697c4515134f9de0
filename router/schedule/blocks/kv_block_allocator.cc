#include "router/schedule/blocks/kv_block_allocator.h"

#include "base/check.h"

namespace sheaf {

KvBlockAllocator::KvBlockAllocator(int num_blocks) : in_use_(num_blocks, false) {
  free_.reserve(num_blocks);
  for (int32_t block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
}

bool KvBlockAllocator::Allocate(int count, std::vector<int32_t>& blocks) {
  if (count > num_free()) return false;
  for (int i = 0; i < count; ++i) {
    const int32_t block = free_.back();
    free_.pop_back();
    in_use_[block] = true;
    blocks.push_back(block);
  }
  return true;
}

void KvBlockAllocator::Free(std::vector<int32_t>& blocks) {
  // Last block first, so that the same request again gets the same blocks in the same order.
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
    SHEAF_CHECK(*block >= 0 && *block < num_blocks(), "a block id comes from Allocate");
    SHEAF_CHECK(in_use_[*block], "a block is freed once");
    in_use_[*block] = false;
    free_.push_back(*block);
  }
  blocks.clear();
}

}  // namespace sheaf

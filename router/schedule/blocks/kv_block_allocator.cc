#include "router/schedule/blocks/kv_block_allocator.h"

#include "base/check.h"

namespace sheaf {

KvBlockAllocator::KvBlockAllocator(int num_blocks) : blocks_(num_blocks) {
  free_.reserve(num_blocks);
  for (int32_t block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
}

bool KvBlockAllocator::Allocate(int count, std::vector<int32_t>& blocks,
                                std::vector<Evicted>* evicted) {
  if (count > num_free()) return false;
  for (int i = 0; i < count; ++i) {
    int32_t block;
    if (!free_.empty()) {
      block = free_.back();
      free_.pop_back();
    } else {
      block = longest_idle_;
      RemoveIdle(block);
      if (evicted != nullptr) evicted->push_back({block, blocks_[block].name});
      names_.erase(blocks_[block].name);
      blocks_[block].named = false;
      ++num_forgotten_;
      ++num_evicted_;
    }
    blocks_[block].owners = 1;
    blocks.push_back(block);
  }
  return true;
}

void KvBlockAllocator::Free(std::vector<int32_t>& blocks) {
  // Also so that the same request again gets the same blocks in the same order.
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
    SHEAF_CHECK(IsBlock(*block), "a block id comes from Allocate");
    Disown(*block);
  }
  blocks.clear();
}

void KvBlockAllocator::Disown(int32_t block) {
  SHEAF_CHECK(blocks_[block].owners > 0, "a block is freed once by each owner");
  if (--blocks_[block].owners > 0) return;
  if (blocks_[block].named) {
    AppendIdle(block);
  } else {
    free_.push_back(block);
  }
}

int32_t KvBlockAllocator::Find(const BlockHash& name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? -1 : found->second;
}

void KvBlockAllocator::Share(int32_t block) {
  SHEAF_CHECK(IsBlock(block) && blocks_[block].named, "only a block with a name is shared");
  if (blocks_[block].owners++ == 0) RemoveIdle(block);
}

int32_t KvBlockAllocator::Publish(int32_t block, const BlockHash& name) {
  SHEAF_CHECK(IsBlock(block) && blocks_[block].owners == 1 && !blocks_[block].named,
              "a block is named once, by its only owner");
  const auto [entry, added] = names_.try_emplace(name, block);
  if (!added) {
    Share(entry->second);
    Disown(block);
    return entry->second;
  }
  blocks_[block].named = true;
  blocks_[block].name = name;
  ++num_published_;
  return block;
}

void KvBlockAllocator::ForgetNames() {
  while (longest_idle_ >= 0) {
    const int32_t block = longest_idle_;
    RemoveIdle(block);
    free_.push_back(block);
  }
  num_forgotten_ += names_.size();
  for (const auto& [name, block] : names_) blocks_[block].named = false;
  names_.clear();
}

void KvBlockAllocator::AppendIdle(int32_t block) {
  blocks_[block].before = latest_idle_;
  blocks_[block].after = -1;
  (latest_idle_ < 0 ? longest_idle_ : blocks_[latest_idle_].after) = block;
  latest_idle_ = block;
  ++num_idle_;
}

void KvBlockAllocator::RemoveIdle(int32_t block) {
  const int32_t before = blocks_[block].before, after = blocks_[block].after;
  (before < 0 ? longest_idle_ : blocks_[before].after) = after;
  (after < 0 ? latest_idle_ : blocks_[after].before) = before;
  --num_idle_;
}

}  // namespace sheaf

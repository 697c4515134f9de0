#pragma once
// KvBlockAllocator: who owns which block of the KV cache, and which blocks have a name by which
// others find them. A block is
//   free        nobody's, and nothing in it is wanted;
//   owned       by one sequence, or by several if it has a name;
//   idle        nobody's, but it has a name: its content stays until the block is needed.
//
// Names      a block gets one by Publish, from its only owner, when its content is complete and
//            will not change: from then on nobody may write into it. A sequence publishes the first
//            block of its chain first. A name belongs to one block at a time: who publishes a
//            second block of the same content is given the first one instead.
// Prefixes   whoever owns a block with a name owns the blocks of its chain before it, and Free
//            gives back the last ones first. Hence a name is never forgotten before those that come
//            after it in its chain, and "has a name" and "has at least n owners" hold for a prefix
//            of every chain.
// Eviction   idle blocks serve Allocate when no free one is left, the one that has been idle
//            longest first: the ends of the chains used longest ago.
//
// Deterministic: fresh blocks in ascending order, and the block freed last is given out first (it
// is warm, and the cache's memory stays as small as the load).
//
// Threads    the step thread only. Cost  O(blocks moved), Find O(1).
// Errors     Allocate fails as a whole when too few blocks are free or idle. Freeing a block that
//            nobody owns, or naming one that is shared, ends the process: it would mix two users'
//            contexts.

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "router/schedule/blocks/block_hash.h"

namespace sheaf {

class KvBlockAllocator {
 public:
  struct Evicted {
    int32_t block;
    BlockHash name;
  };

  explicit KvBlockAllocator(int num_blocks);

  int num_blocks() const { return static_cast<int>(blocks_.size()); }
  // Free or idle: what Allocate can give.
  int num_free() const { return static_cast<int>(free_.size()) + num_idle_; }
  int num_named() const { return static_cast<int>(names_.size()); }

  // Appends `count` block ids to `blocks`, or changes nothing and returns false. Names that had to
  // go are appended to `evicted`; the bytes of those blocks are still what they were.
  [[nodiscard]] bool Allocate(int count, std::vector<int32_t>& blocks,
                              std::vector<Evicted>* evicted = nullptr);

  // Gives back one ownership of each of `blocks`, the last first, and empties it.
  void Free(std::vector<int32_t>& blocks);

  // The block of that name; -1: none.
  int32_t Find(const BlockHash& name) const;
  int num_owners(int32_t block) const { return blocks_[block].owners; }
  // One more owner of a block with a name.
  void Share(int32_t block);
  // Names a block of one owner. Returns the block that the owner has from now on: this one, or one
  // that had the name already.
  [[nodiscard]] int32_t Publish(int32_t block, const BlockHash& name);
  // No block has a name any more.
  void ForgetNames();

  // Ever: names given; names gone, for whatever reason. While neither changes, nor does Find.
  uint64_t num_published() const { return num_published_; }
  uint64_t num_forgotten() const { return num_forgotten_; }
  // Of those gone, by eviction.
  uint64_t num_evicted() const { return num_evicted_; }

 private:
  struct Block {
    int32_t owners = 0;
    bool named = false;
    BlockHash name;
    int32_t before = -1, after = -1;  // in the list of idle blocks
  };

  bool IsBlock(int32_t block) const { return block >= 0 && block < num_blocks(); }
  void Disown(int32_t block);
  void AppendIdle(int32_t block);
  void RemoveIdle(int32_t block);

  std::vector<Block> blocks_;
  std::vector<int32_t> free_;  // the next one is at the back
  std::unordered_map<BlockHash, int32_t, BlockHashBits> names_;
  int32_t longest_idle_ = -1, latest_idle_ = -1;
  int num_idle_ = 0;
  uint64_t num_published_ = 0, num_forgotten_ = 0, num_evicted_ = 0;
};

}  // namespace sheaf

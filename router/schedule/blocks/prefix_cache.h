#pragma once
// PrefixCache: the blocks of the sequences, and what of a new one has been computed before: for
// another request, another choice of this one, or this sequence itself before a preemption.
//
//   queued:   Look (how much could be had now); Restore (more of it, out of the second tier)
//   admitted: Take, in the same step; its computed tokens begin there
//   running:  Allocate before a step, Publish after one that succeeded
//   over, or preempted: Free
//
// Same bytes what was computed of a token depends on the tokens before it alone (decoder.h), so
//            a block that was computed for others holds, bit for bit, what this sequence would
//            have put there.
// Published  whole blocks whose positions were all computed by steps that succeeded, of prompt and
//            output alike: the answer of one turn is a part of the next turn's prompt. A step that
//            was given up or failed publishes nothing.
// Written    never what is shared: a sequence writes at its computed tokens and after them, and
//            what it takes or has published ends there, at the end of a block. So contexts that
//            diverge within a block need no copy of it; each computes its own, less than a block.
// Forgotten  Forget: no block has a name any more. Sequences that run publish nothing more until
//            they are admitted anew.
// Second     with a second tier, evicted blocks go there, and Restore brings them back under their
//            names, nobody's at first, before their sequence is admitted.
// Salt       prompts share blocks only with those of the same cache_salt.
//
// Threads    the step thread; hashes are computed by whoever extends a chain.
// Errors     none. Allocate: as KvBlockAllocator.
// Cost       Look: O(1) while nothing changed, else O(log blocks) and O(1) for each block more that
//            it finds. Take, Free: O(blocks).

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "router/schedule/blocks/block_hash.h"
#include "router/schedule/blocks/kv_block_allocator.h"

namespace sheaf {

class SecondTier;

struct PrefixCacheOptions {
  bool enabled = true;
  BlockHashKey key{};  // of this process alone (RandomBlockHashKey)
  Duration copy_time = std::chrono::milliseconds(20);  // a step, to and from the second tier
};

// What a sequence keeps for it.
struct CachedPrefix {
  BlockHashChain chain;  // of its tokens; may be behind them

  // The cache's own.
  int published = 0;   // of the sequence's blocks, the first so many have their names
  uint64_t epoch = 0;  // in which those were taken
  int restored = 0;    // blocks, since it waits
  int found = 0;       // blocks at its beginning that the last Look found
  uint64_t looked_published = ~uint64_t{0}, looked_forgotten = ~uint64_t{0};  // of that moment
};

class PrefixCache {
 public:
  // second_tier: null for none; else it outlives this.
  PrefixCache(const PrefixCacheOptions& options, int num_blocks, int block_size,
              SecondTier* second_tier = nullptr);

  bool enabled() const { return enabled_; }
  int block_size() const { return block_size_; }
  int num_blocks() const { return allocator_.num_blocks(); }
  // What Allocate can give; blocks that are only cached count.
  int num_free() const { return allocator_.num_free(); }
  int num_cached() const { return allocator_.num_named(); }
  uint64_t num_evicted() const { return allocator_.num_evicted(); }

  struct Found {
    int blocks = 0;  // whole blocks at the beginning that Take would give
    int shared = 0;  // of those, owned by others now: Take leaves num_free as it is
  };
  // At most `most` blocks.
  Found Look(CachedPrefix& prefix, int most) const;
  // Whether the second tier has the block after those that Look finds.
  bool CanRestore(CachedPrefix& prefix, int most) const;
  // Brings back blocks from there on, as many as there are, find room and have time in this step;
  // returns their number. None of those that Look finds makes room for them.
  int Restore(CachedPrefix& prefix, int most);
  // Owns what Look finds, beside whoever else does, until LetGo: it makes room for nobody.
  void Hold(CachedPrefix& prefix, int most, std::vector<int32_t>& held);
  void LetGo(std::vector<int32_t>& held) { allocator_.Free(held); }
  // Of a sequence's blocks, those that others own too: its Free does not free them.
  int NumShared(const CachedPrefix& prefix, std::span<const int32_t> blocks) const;
  // The name of the block after the published ones; none: `total_tokens` do not fill it.
  std::optional<BlockHash> NextName(const CachedPrefix& prefix, int total_tokens) const;
  // Appends to `blocks`, which is empty, what Look found of at most `most`; returns their number.
  int Take(CachedPrefix& prefix, int most, std::vector<int32_t>& blocks);
  [[nodiscard]] bool Allocate(int count, std::vector<int32_t>& blocks);
  // The first `computed_tokens` of `tokens` are in `blocks`, for good.
  void Publish(CachedPrefix& prefix, std::string_view cache_salt, std::span<const TokenId> tokens,
               int computed_tokens, std::vector<int32_t>& blocks);
  void Free(CachedPrefix& prefix, std::vector<int32_t>& blocks);
  void Forget();

 private:
  const bool enabled_;
  const int block_size_;
  const BlockHasher hasher_;
  SecondTier* const second_tier_;
  KvBlockAllocator allocator_;
  std::vector<KvBlockAllocator::Evicted> evicted_;  // of one Allocate
  uint64_t epoch_ = 0;
};

}  // namespace sheaf

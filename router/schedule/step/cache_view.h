#pragma once
// CacheView: what a plan must know of the prefix cache, as of the moment it is made.
//
// Deferred   a queued sequence whose next missing block a running one is about to compute, or one
//            before it in the queue, waits for that block instead of computing it too. It is asked
//            again before the next step: whatever became of the other one, it finds the block or
//            computes it.
// Restored   the first of those that could have blocks back from the second tier gets them, out of
//            the room that those before it leave; it and the others wait for their turn: that is
//            quicker than computing them. Nobody waits when nothing could be brought back.
//
// Threads    the step thread. Cost  O(running), PrefixCache::Look for each queued sequence, Restore
//            for one.

#include <memory>
#include <span>
#include <unordered_set>

#include "router/schedule/blocks/prefix_cache.h"
#include "router/schedule/plan/scheduler.h"
#include "router/schedule/step/sequence.h"

namespace sheaf {

class CacheView {
 public:
  // The cache outlives the view.
  CacheView(PrefixCache& cache, std::span<const std::unique_ptr<Sequence>> running);

  // Fills in what the cache has of queued sequences, in order of the queue; once.
  void Describe(std::span<Sequence* const> queued, std::span<QueuedSequence> views);
  // Somebody waits for blocks out of the second tier: there is work though nobody may run.
  bool restoring() const { return restoring_; }

 private:
  int MostBlocks(const Sequence& sequence) const;
  bool RestoreOne(std::span<Sequence* const> queued);
  void DescribeOne(Sequence& sequence, QueuedSequence& view);

  PrefixCache& cache_;
  bool restoring_ = false;
  std::unordered_set<BlockHash, BlockHashBits> computing_;  // names of blocks
};

}  // namespace sheaf

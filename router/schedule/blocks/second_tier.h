#pragma once
// SecondTier: what the prefix cache does with blocks that it evicts, and where it looks for blocks
// that it has no more: a BlockStore, and copies between it and the KV cache. A block is copied as
// it is, all its planes (keys and values, latents, an indexer's keys).
//
// Time       copies run on the step thread, for at most `time_a_step` from BeginStep on (a block
//            more, the one under way): then evicted blocks are lost, and what is looked for comes
//            in later steps.
// Threads    the step thread. Ownership  borrows all; the store is this one's alone.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "router/attention/kv_cache.h"
#include "router/schedule/blocks/block_store.h"
#include "router/schedule/blocks/kv_block_allocator.h"

namespace sheaf {

class SecondTier {
 public:
  SecondTier(BlockStore& store, const KvCache& cache, const Clock& clock, Duration time_a_step)
      : store_(store), cache_(cache), clock_(clock), time_a_step_(time_a_step) {}

  void BeginStep() { until_ = clock_.Now() + time_a_step_; }
  bool HasTime() const { return clock_.Now() < until_; }

  bool Has(const BlockHash& name) const { return store_.Has(name); }
  // Blocks whose bytes are still what they were.
  void Keep(std::span<const KvBlockAllocator::Evicted> evicted);
  // False: it could not be had, and is not there any more; the block's bytes are undefined.
  [[nodiscard]] bool Load(const BlockHash& name, int32_t block);
  void Clear() { store_.Clear(); }

  // Ever, in blocks.
  struct Figures {
    int64_t held = 0;  // now
    int64_t kept = 0, lost = 0;  // evicted ones: copied or there already; no time for them
    int64_t loaded = 0;
    int64_t failed = 0;  // bad checksums, errors of the file
  };
  Figures figures() const;
  absl::Status TakeRemark() { return store_.TakeRemark(); }

 private:
  std::span<const std::span<uint8_t>> PiecesOf(int32_t block);

  BlockStore& store_;
  const KvCache& cache_;
  const Clock& clock_;
  const Duration time_a_step_;
  TimePoint until_{};
  std::vector<std::span<uint8_t>> pieces_;
  Figures figures_;
};

}  // namespace sheaf

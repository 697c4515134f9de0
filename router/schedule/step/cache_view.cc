#include "router/schedule/step/cache_view.h"

#include <optional>

namespace sheaf {

CacheView::CacheView(PrefixCache& cache, std::span<const std::unique_ptr<Sequence>> running)
    : cache_(cache) {
  for (const std::unique_ptr<Sequence>& sequence : running) {
    const std::optional<BlockHash> name =
        cache.NextName(sequence->prefix, sequence->total_tokens());
    if (name.has_value()) computing_.insert(*name);
  }
}

int CacheView::MostBlocks(const Sequence& sequence) const {
  return sequence.reusable_tokens() / cache_.block_size();
}

void CacheView::Describe(std::span<Sequence* const> queued, std::span<QueuedSequence> views) {
  // Before anything is said of anybody: what comes back takes other blocks' places.
  for (Sequence* const sequence : queued) {
    if (cache_.Restore(sequence->prefix, MostBlocks(*sequence))) {
      restoring_ = sequence;
      break;
    }
  }
  for (size_t i = 0; i < queued.size(); ++i) DescribeOne(*queued[i], views[i]);
}

void CacheView::DescribeOne(Sequence& sequence, QueuedSequence& view) {
  const int most = MostBlocks(sequence);
  const PrefixCache::Found found = cache_.Look(sequence.prefix, most);
  view.cached_tokens = found.blocks * cache_.block_size();
  view.shared_blocks = found.shared;
  view.deferred = &sequence == restoring_;
  if (found.blocks >= sequence.prefix.chain.size()) return;
  const bool is_first = computing_.insert(sequence.prefix.chain[found.blocks]).second;
  if (!is_first && found.blocks < most) view.deferred = true;
}

}  // namespace sheaf

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

void CacheView::Describe(Sequence& sequence, QueuedSequence& view) {
  const int most = sequence.reusable_tokens() / cache_.block_size();
  const bool waits = !restoring_ && cache_.Restore(sequence.prefix, most);
  restoring_ = restoring_ || waits;
  const PrefixCache::Found found = cache_.Look(sequence.prefix, most);
  view.cached_tokens = found.blocks * cache_.block_size();
  view.shared_blocks = found.shared;
  if (found.blocks >= sequence.prefix.chain.size()) return;
  const bool is_first = computing_.insert(sequence.prefix.chain[found.blocks]).second;
  view.deferred = waits || (!is_first && found.blocks < most);
}

}  // namespace sheaf

#include "router/schedule/step/cache_view.h"

#include <algorithm>
#include <optional>
#include <vector>

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
  const bool restored = RestoreOne(queued);
  for (size_t i = 0; i < queued.size(); ++i) {
    DescribeOne(*queued[i], views[i]);
    if (!restored || !cache_.CanRestore(queued[i]->prefix, MostBlocks(*queued[i]))) continue;
    views[i].deferred = true;
    restoring_ = true;
  }
}

bool CacheView::RestoreOne(std::span<Sequence* const> queued) {
  const auto first = std::ranges::find_if(queued, [&](Sequence* sequence) {
    return cache_.CanRestore(sequence->prefix, MostBlocks(*sequence));
  });
  if (first == queued.end()) return false;
  std::vector<int32_t> held;
  for (auto before = queued.begin(); before != first; ++before) {
    cache_.Hold((*before)->prefix, MostBlocks(**before), held);
  }
  const int restored = cache_.Restore((*first)->prefix, MostBlocks(**first));
  cache_.LetGo(held);
  return restored > 0;
}

void CacheView::DescribeOne(Sequence& sequence, QueuedSequence& view) {
  const int most = MostBlocks(sequence);
  const PrefixCache::Found found = cache_.Look(sequence.prefix, most);
  view.cached_tokens = found.blocks * cache_.block_size();
  view.shared_blocks = found.shared;
  if (found.blocks >= sequence.prefix.chain.size()) return;
  const bool is_first = computing_.insert(sequence.prefix.chain[found.blocks]).second;
  view.deferred = !is_first && found.blocks < most;
}

}  // namespace sheaf

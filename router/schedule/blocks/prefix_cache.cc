#include "router/schedule/blocks/prefix_cache.h"

#include <algorithm>

#include "base/check.h"
#include "router/schedule/blocks/second_tier.h"

namespace sheaf {
namespace {

// The first of 0 .. count - 1 that `holds` does not hold for, when it holds for a prefix of them.
template <typename Predicate>
int PrefixLength(int count, const Predicate& holds) {
  int low = 0, high = count;
  while (low < high) {
    const int middle = high - (high - low) / 2;
    if (holds(middle - 1)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace

PrefixCache::PrefixCache(const PrefixCacheOptions& options, int num_blocks, int block_size,
                         SecondTier* second_tier)
    : enabled_(options.enabled),
      block_size_(block_size),
      hasher_(options.key),
      second_tier_(second_tier),
      allocator_(num_blocks) {}

PrefixCache::Found PrefixCache::Look(CachedPrefix& prefix, int most) const {
  if (!enabled_) return {};
  const BlockHashChain& chain = prefix.chain;
  if (prefix.looked_forgotten != allocator_.num_forgotten()) {
    prefix.found =
        PrefixLength(prefix.found, [&](int i) { return allocator_.Find(chain[i]) >= 0; });
    prefix.looked_forgotten = allocator_.num_forgotten();
  }
  if (prefix.looked_published != allocator_.num_published()) {
    while (prefix.found < chain.size() && allocator_.Find(chain[prefix.found]) >= 0) ++prefix.found;
    prefix.looked_published = allocator_.num_published();
  }
  Found found;
  found.blocks = std::min(prefix.found, most);
  found.shared = PrefixLength(found.blocks, [&](int i) {
    return allocator_.num_owners(allocator_.Find(chain[i])) > 0;
  });
  return found;
}

bool PrefixCache::CanRestore(CachedPrefix& prefix, int most) const {
  if (!enabled_ || second_tier_ == nullptr) return false;
  // Each block once: when others need the room so badly that what came is gone before its sequence
  // is admitted, it is computed.
  if (prefix.restored >= prefix.chain.size()) return false;
  most = std::min(most, prefix.chain.size());
  const int next = Look(prefix, most).blocks;
  return next < most && second_tier_->Has(prefix.chain[next]);
}

int PrefixCache::Restore(CachedPrefix& prefix, int most) {
  if (!CanRestore(prefix, most)) return 0;
  const BlockHashChain& chain = prefix.chain;
  most = std::min(most, chain.size());
  std::vector<int32_t> blocks;
  Hold(prefix, most, blocks);
  const int first = static_cast<int>(blocks.size());
  int next = first;
  while (next < most && second_tier_->Has(chain[next]) && second_tier_->HasTime() &&
         Allocate(1, blocks) && second_tier_->Load(chain[next], blocks.back())) {
    blocks.back() = allocator_.Publish(blocks.back(), chain[next]);
    ++next;
  }
  LetGo(blocks);
  prefix.restored += next - first;
  return next - first;
}

void PrefixCache::Hold(CachedPrefix& prefix, int most, std::vector<int32_t>& held) {
  const int count = Look(prefix, most).blocks;
  for (int i = 0; i < count; ++i) {
    held.push_back(allocator_.Find(prefix.chain[i]));
    allocator_.Share(held.back());
  }
}

int PrefixCache::NumShared(const CachedPrefix& prefix, std::span<const int32_t> blocks) const {
  return PrefixLength(prefix.published,
                      [&](int i) { return allocator_.num_owners(blocks[i]) > 1; });
}

std::optional<BlockHash> PrefixCache::NextName(const CachedPrefix& prefix, int total_tokens) const {
  if (!enabled_ || prefix.epoch != epoch_) return std::nullopt;
  const int next = prefix.published;
  if (next >= prefix.chain.size() || int64_t{next + 1} * block_size_ > total_tokens) {
    return std::nullopt;
  }
  return prefix.chain[next];
}

int PrefixCache::Take(CachedPrefix& prefix, int most, std::vector<int32_t>& blocks) {
  SHEAF_CHECK(blocks.empty(), "what is taken is the beginning");
  Hold(prefix, most, blocks);
  const int count = static_cast<int>(blocks.size());
  prefix.published = count;
  prefix.epoch = epoch_;
  prefix.restored = 0;
  return count;
}

bool PrefixCache::Allocate(int count, std::vector<int32_t>& blocks) {
  if (second_tier_ == nullptr) return allocator_.Allocate(count, blocks);
  evicted_.clear();
  if (!allocator_.Allocate(count, blocks, &evicted_)) return false;
  second_tier_->Keep(evicted_);
  return true;
}

void PrefixCache::Publish(CachedPrefix& prefix, std::string_view cache_salt,
                          std::span<const TokenId> tokens, int computed_tokens,
                          std::vector<int32_t>& blocks) {
  const int whole = computed_tokens / block_size_;
  if (!enabled_ || prefix.epoch != epoch_ || prefix.published >= whole) return;
  prefix.chain.Extend(hasher_, cache_salt, tokens.first(computed_tokens), block_size_);
  for (int& i = prefix.published; i < whole; ++i) {
    blocks[i] = allocator_.Publish(blocks[i], prefix.chain[i]);
  }
}

void PrefixCache::Free(CachedPrefix& prefix, std::vector<int32_t>& blocks) {
  allocator_.Free(blocks);
  prefix.published = 0;
}

void PrefixCache::Forget() {
  allocator_.ForgetNames();
  if (second_tier_ != nullptr) second_tier_->Clear();
  ++epoch_;
}

}  // namespace sheaf

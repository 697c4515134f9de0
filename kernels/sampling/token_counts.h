#pragma once
// TokenCounts: which token ids a sequence has had, and how often its output had each: what
// penalties need, kept while the sequence grows instead of counted again for every token.
//
// Threads    as a container. Cost  AddOutput O(1); reading O(distinct ids); construction O(tokens).
// Memory     8 bytes and a hash entry for each distinct id.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/ids.h"

namespace sheaf::kernels {

class TokenCounts {
 public:
  struct Entry {
    TokenId id = 0;
    uint32_t output : 31 = 0;   // times in the output
    uint32_t in_prompt : 1 = 0;
  };

  TokenCounts() = default;
  TokenCounts(std::span<const TokenId> prompt, std::span<const TokenId> output) {
    for (const TokenId id : prompt) Find(id).in_prompt = 1;
    for (const TokenId id : output) AddOutput(id);
  }

  void AddOutput(TokenId id) {
    Entry& entry = Find(id);
    entry.output = entry.output + 1;
  }

  // Each id once, in the order of first occurrence.
  std::span<const Entry> entries() const { return entries_; }

 private:
  Entry& Find(TokenId id) {
    const auto [found, is_new] =
        places_.try_emplace(id, static_cast<uint32_t>(entries_.size()));
    if (is_new) entries_.push_back({id});
    return entries_[found->second];
  }

  absl::flat_hash_map<TokenId, uint32_t> places_;
  std::vector<Entry> entries_;
};

}  // namespace sheaf::kernels

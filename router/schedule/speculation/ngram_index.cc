#include "router/schedule/speculation/ngram_index.h"

#include <algorithm>

namespace sheaf {

// Two runs may share a key: MatchLength compares the tokens themselves.
uint64_t NgramIndex::KeyOf(std::span<const TokenId> run) const {
  uint64_t key = 0x9E3779B97F4A7C15;
  for (const TokenId token : run) {
    key = (key ^ static_cast<uint32_t>(token)) * 0xFF51AFD7ED558CCD;
    key ^= key >> 32;
  }
  return key;
}

void NgramIndex::Extend(std::span<const TokenId> text) {
  const size_t first = std::max<size_t>(earlier_end_.size(), 1);
  earlier_end_.resize(text.size() + 1, 0);
  const auto run = static_cast<size_t>(options_.min_match);
  for (size_t end = std::max(first, run); end <= text.size(); ++end) {
    int32_t& latest = latest_end_[KeyOf(text.subspan(end - run, run))];
    earlier_end_[end] = latest;
    latest = static_cast<int32_t>(end);
  }
}

// How many tokens before `end` equal those before the text's end, at most max_match.
int NgramIndex::MatchLength(std::span<const TokenId> text, int end) const {
  int length = 0;
  while (length < options_.max_match && length < end &&
         text[end - 1 - length] == text[text.size() - 1 - length]) {
    ++length;
  }
  return length;
}

std::vector<TokenId> NgramIndex::Draft(std::span<const TokenId> text, int longest) const {
  if (longest < 1 || text.size() + 1 != earlier_end_.size()) return {};
  int best_end = 0, best_length = options_.min_match - 1;
  int end = earlier_end_.back();
  for (int places = 0; end > 0 && places < kPlaces; ++places, end = earlier_end_[end]) {
    const int length = MatchLength(text, end);
    if (length > best_length) {
      best_end = end;
      best_length = length;
    }
  }
  if (best_end == 0) return {};
  const std::span<const TokenId> period = text.subspan(best_end);
  std::vector<TokenId> draft(static_cast<size_t>(longest));
  for (size_t i = 0; i < draft.size(); ++i) draft[i] = period[i % period.size()];
  return draft;
}

}  // namespace sheaf

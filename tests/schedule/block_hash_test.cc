#include "router/schedule/blocks/block_hash.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace sheaf {
namespace {

std::vector<TokenId> Tokens(int count, int first = 0) {
  std::vector<TokenId> tokens(count);
  for (int i = 0; i < count; ++i) tokens[i] = first + i;
  return tokens;
}

BlockHashKey Key(uint8_t byte) {
  BlockHashKey key{};
  key.fill(byte);
  return key;
}

BlockHashChain Chain(const BlockHasher& hasher, const std::string& salt,
                     const std::vector<TokenId>& tokens, int block_size = 4) {
  BlockHashChain chain;
  chain.Extend(hasher, salt, tokens, block_size);
  return chain;
}

TEST(BlockHash, HasOneForEachWholeBlock) {
  const BlockHasher hasher(Key(1));
  for (int tokens = 0; tokens < 20; ++tokens) {
    EXPECT_EQ(Chain(hasher, "", Tokens(tokens)).size(), tokens / 4);
  }
  EXPECT_EQ(BlockHashChain().size(), 0);
}

TEST(BlockHash, IsTheSameInOneGoAndTokenByToken) {
  const BlockHasher hasher(Key(1));
  const std::vector<TokenId> tokens = Tokens(19);
  const BlockHashChain whole = Chain(hasher, "s", tokens);
  BlockHashChain grown;
  for (size_t length = 0; length <= tokens.size(); ++length) {
    grown.Extend(hasher, "s", std::span(tokens).first(length), 4);
  }
  ASSERT_EQ(grown.size(), whole.size());
  for (int i = 0; i < whole.size(); ++i) EXPECT_EQ(grown[i], whole[i]);
}

TEST(BlockHash, DiffersByEverythingThatMatters) {
  const BlockHasher hasher(Key(1));
  const std::vector<TokenId> tokens = Tokens(8);
  std::vector<TokenId> other_first = tokens, other_last = tokens, swapped = tokens;
  other_first[0] = 100;
  other_last[7] = 100;
  std::swap(swapped[4], swapped[5]);
  std::set<std::array<uint64_t, 2>> second;
  second.insert(Chain(hasher, "", tokens)[1].words);
  second.insert(Chain(hasher, "a", tokens)[1].words);
  second.insert(Chain(BlockHasher(Key(2)), "", tokens)[1].words);
  second.insert(Chain(hasher, "", other_first)[1].words);
  second.insert(Chain(hasher, "", other_last)[1].words);
  second.insert(Chain(hasher, "", swapped)[1].words);
  second.insert(Chain(hasher, "", tokens)[0].words);
  second.insert(Chain(hasher, "", Tokens(8, -4))[1].words);  // the same block, elsewhere
  EXPECT_EQ(second.size(), 8u);
  EXPECT_EQ(Chain(hasher, "", tokens)[0], Chain(hasher, "", other_last)[0]);
}

TEST(BlockHash, TheKeyIsDrawnAnew) { EXPECT_NE(RandomBlockHashKey(), RandomBlockHashKey()); }

}  // namespace
}  // namespace sheaf

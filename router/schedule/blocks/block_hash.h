#pragma once
// BlockHash: the name of what a block of the KV cache holds: a chained keyed hash of the token ids
// from the beginning of the sequence to the end of the block.
//
//   root      = H(key, 0, cache_salt)
//   hash of i = H(key, 1, hash of i-1, the block's token ids)
//
// Equal names must mean equal tokens: a collision would answer one user with another user's
// context, and clients choose the tokens, so a fast hash that can be inverted will not do. H is
// SHA-256, cut to 128 bits. The key is drawn anew by every process, so nobody can look for
// collisions outside it, nor tell from timing names what another process has cached. Prompts with
// different salts have different roots and share nothing.
//
// Shapes     whole blocks only; a chain has a hash for each.
// Threads    BlockHasher: constant, any thread. A chain: one thread at a time.
// Cost       about 0.5 us a block of 16 tokens.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace sheaf {

struct BlockHash {
  std::array<uint64_t, 2> words{};
  bool operator==(const BlockHash&) const = default;
};

// For unordered containers: the bits are uniform and secret already.
struct BlockHashBits {
  size_t operator()(const BlockHash& hash) const { return static_cast<size_t>(hash.words[0]); }
};

using BlockHashKey = std::array<uint8_t, 32>;

// Of the system's random device.
BlockHashKey RandomBlockHashKey();

class BlockHasher {
 public:
  explicit BlockHasher(const BlockHashKey& key) : key_(key) {}

  BlockHash Root(std::string_view cache_salt) const;
  BlockHash Next(const BlockHash& parent, std::span<const TokenId> block) const;

 private:
  const BlockHashKey key_;
};

// The hashes of one sequence's blocks so far.
class BlockHashChain {
 public:
  // Adds those of the whole blocks of `tokens` that have none yet; tokens that have been seen are
  // the same ones. The salt counts in the first call.
  void Extend(const BlockHasher& hasher, std::string_view cache_salt,
              std::span<const TokenId> tokens, int block_size);

  int size() const { return static_cast<int>(hashes_.size()) - (hashes_.empty() ? 0 : 1); }
  const BlockHash& operator[](int block) const { return hashes_[static_cast<size_t>(block) + 1]; }

 private:
  std::vector<BlockHash> hashes_;  // the root, then one a block; empty: nothing yet
};

}  // namespace sheaf

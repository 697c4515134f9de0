#pragma once
// NgramIndex: proposes how a text goes on by how it went on before (prompt lookup): the longest run
// of newest tokens that occurred earlier, and the tokens that followed it there.
//
// Only runs of min_match tokens are indexed, by their latest places; a longer match is found by
// comparing backwards from the latest kPlaces of them. The longest match wins, among equals the
// latest. Nothing is guessed by chance: the same tokens give the same draft.
//
// Ownership  a reference to no tokens: the caller passes the same growing text each time.
// Threads    one.
// Cost       Extend O(1) a token, 20 bytes a token; Draft O(kPlaces * max_match).
// Source     "Prompt Lookup Decoding" (A. Saxena, 2023).

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/ids.h"

namespace sheaf {

struct NgramOptions {
  int min_match = 2;  // tokens, >= 1
  int max_match = 4;  // tokens, >= min_match
};

class NgramIndex {
 public:
  static constexpr int kPlaces = 8;

  explicit NgramIndex(const NgramOptions& options) : options_(options) {}

  // `text` begins with all that was given before.
  void Extend(std::span<const TokenId> text);

  // `longest` tokens that may follow `text`, which is the text of the last Extend; where the
  // earlier place is so near that they run into the text's end, they repeat. Empty: no match.
  std::vector<TokenId> Draft(std::span<const TokenId> text, int longest) const;

 private:
  uint64_t KeyOf(std::span<const TokenId> run) const;
  int MatchLength(std::span<const TokenId> text, int end) const;

  const NgramOptions options_;
  // end = the index after a run's last token.
  std::unordered_map<uint64_t, int32_t> latest_end_;
  // by end: where the same run (or key) ended before; 0: nowhere
  std::vector<int32_t> earlier_end_;
};

}  // namespace sheaf

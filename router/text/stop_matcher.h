#pragma once
// StopMatcher finds the first stop string in a text that comes in pieces, and holds back what may
// yet turn out to be the beginning of one.
//
// Which match  The one that ends first in the text; of several that end there, the longest; of
//              equal strings, the first in the list. So the result does not depend on where the
//              pieces are cut.
// Held back    Exactly the longest end of the text that begins a stop string, so whole characters
//              as long as pieces and stop strings are UTF-8.
// Threads      StopStrings is immutable and shared; a StopMatcher belongs to one sequence, one
//              thread at a time.
// Errors       StopStrings::Create: kInvalidArgument for an empty stop string or too many bytes in
//              all.
// Cost         O(length of the text) for any number of stop strings (an Aho-Corasick automaton).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sheaf {

class StopStrings {
 public:
  static constexpr size_t kMaxTotalBytes = size_t{64} << 10;

  // No strings: nothing is ever matched or held back.
  static absl::StatusOr<StopStrings> Create(std::span<const std::string> strings);
  StopStrings() = default;

 private:
  friend class StopMatcher;
  // One beginning of a stop string; node 0 is the empty one.
  struct Node {
    uint8_t byte = 0;          // the last byte of this beginning
    int32_t first_child = 0;   // 0: none
    int32_t next_sibling = 0;  // 0: none
    int32_t fail = 0;          // the longest proper end of this beginning that is a node too
    int32_t length = 0;        // bytes of this beginning
    int32_t match = -1;        // index of the longest stop string that ends here, -1: none
    int32_t match_length = 0;
  };

  void Insert(std::string_view text, int32_t index);
  void Link();
  int32_t Child(int32_t node, uint8_t byte) const;  // 0: none
  int32_t Next(int32_t node, uint8_t byte) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
};

class StopMatcher {
 public:
  struct Result {
    std::string text;               // safe to show now
    std::optional<int> stop_index;  // set: this stop string was found and `text` is the last
  };

  // `include_stop`: the text ends after the stop string instead of before it.
  StopMatcher(std::shared_ptr<const StopStrings> strings, bool include_stop);

  // `may_stop` false: no match may end within this piece, though a later one may begin in it. After
  // a match nothing more is accepted: further pieces give empty results.
  Result Push(std::string_view piece, bool may_stop = true);
  // The end of the text: what was held back.
  std::string Finish();

 private:
  const std::shared_ptr<const StopStrings> strings_;
  const bool include_stop_;
  std::string held_;
  int32_t node_ = 0;
  bool stopped_ = false;
};

}  // namespace sheaf

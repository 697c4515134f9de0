#pragma once
// ThoughtTracker: which tokens of an output are thoughts, and how many.
//
// <think> begins thoughts, </think> ends them, and so does a call's first tag. The tags themselves
// are not counted (as vLLM counts reasoning_tokens).
//
// Threads  one at a time. Cost  O(1) a token.

#include <cstdint>
#include <optional>

#include "base/ids.h"

namespace sheaf {

// The tokenizer's own tag tokens; nullopt where it has none.
struct ThoughtTags {
  std::optional<TokenId> think_begin;
  std::optional<TokenId> think_end;
  std::optional<TokenId> call_begin;
};

class ThoughtTracker {
 public:
  ThoughtTracker() = default;
  ThoughtTracker(const ThoughtTags& tags, bool inside) : tags_(tags), inside_(inside) {}

  void Accept(TokenId token) {
    if (token == tags_.think_begin) {
      inside_ = true;
    } else if (token == tags_.think_end || token == tags_.call_begin) {
      inside_ = false;
    } else if (inside_) {
      ++num_tokens_;
    }
  }

  bool inside() const { return inside_; }
  int32_t num_tokens() const { return num_tokens_; }

 private:
  ThoughtTags tags_;
  bool inside_ = false;
  int32_t num_tokens_ = 0;
};

}  // namespace sheaf

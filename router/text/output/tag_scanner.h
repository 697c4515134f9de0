#pragma once
// TagScanner finds the tags in a generated text: as the tokenizer's own tokens, and as text those
// for which it has none.
//
// A tag that has a token counts only as that token: text that looks the same is text, so what a
// user or a file says cannot open a call. Text is held back only while it may become a tag.
// Ownership  The views that Next and Flush return live until the next call.
// Threads    One at a time. Cost  O(bytes); at most 11 bytes are held.

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "router/text/output/output_format.h"

namespace sheaf {

class TagScanner {
 public:
  struct Item {
    std::optional<OutputTag> tag;  // nullopt: ordinary text
    std::string_view text;
  };

  // Only the tags of the two groups that are asked for are looked for.
  TagScanner(const OutputTags& tags, bool think_tags, bool call_tags);

  // The tag whose token this is.
  std::optional<OutputTag> TagOf(TokenId id) const;

  // Takes the next item from the front of `text`; nullopt when `text` is used up.
  std::optional<Item> Next(std::string_view& text);
  // What is held back is no tag after all. Empty: nothing was held.
  std::string_view Flush();

 private:
  bool IsWanted(size_t tag) const;
  // Of the tags that come as text: one that begins with `text`.
  std::optional<OutputTag> TextTagBeginningWith(std::string_view text) const;

  const std::array<std::optional<TokenId>, kNumOutputTags> ids_;
  const bool think_tags_;
  const bool call_tags_;
  bool has_text_tags_ = false;
  std::string held_;     // the beginning of a tag that comes as text
  std::string flushed_;  // what an Item's text points to when it was held
};

}  // namespace sheaf

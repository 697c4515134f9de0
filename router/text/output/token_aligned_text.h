#pragma once
// TokenAlignedText gives each tag token its own text again.
//
// The text of a generation comes with its tokens, but may lag behind: half a character and what may
// become a stop string are held back, so a token's event can carry earlier tokens' text and not its
// own. The output parser wants a tag token and its text together, in their place.
//
// Input      token, text and text_end of each TokenEvent in order, then the text of the end.
// Output     The same text in pieces: each tag token's as one piece with its id, everything else as
//            ordinary text at once. A tag whose text never comes whole (a stop string cut into it)
//            is ordinary text as far as it came; a tag that is not shown (special tokens are
//            skipped) is an empty piece with its id.
// Threads    One at a time.
// Cost       O(bytes of the text); memory: the part of a tag that has come, and the tags that lag.

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "router/text/output/output_format.h"

namespace sheaf {

struct TextPiece {
  std::optional<TokenId> tag;  // set: `text` is all of this tag token's text
  std::string text;
  bool operator==(const TextPiece&) const = default;
};

class TokenAlignedText {
 public:
  // `shown_bytes`: how many bytes of text a token adds to the output; 0 when it is skipped.
  TokenAlignedText(const OutputTags& tags, const std::function<size_t(TokenId)>& shown_bytes);

  // Appends the pieces that are certain now. `text_end` -1: the token ends with `text`.
  void Push(TokenId token, std::string_view text, int64_t text_end, std::vector<TextPiece>& pieces);
  void Finish(std::string_view text, std::vector<TextPiece>& pieces);

 private:
  struct Tag {
    TokenId id = 0;
    int64_t size = 0;  // bytes of its text in the output
  };
  struct PlacedTag {
    Tag tag;
    int64_t begin = 0;  // in the output's text
  };

  void AddText(std::string_view text, std::vector<TextPiece>& pieces);

  std::vector<Tag> tags_;
  std::deque<PlacedTag> expected_;  // tags whose text has not come whole
  std::string held_;                // the part of the first of them that has come
  int64_t passed_ = 0;              // bytes in pieces so far
  int64_t last_end_ = 0;            // text_end of the last token
};

}  // namespace sheaf

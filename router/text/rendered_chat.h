#pragma once
// RenderedChat: a chat as the text that the model continues, and which parts of that text are no
// tokens although they look like some.

#include <cstddef>
#include <string>
#include <vector>

namespace sheaf {

// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin = 0;
  size_t end = 0;

  friend bool operator==(const TextRange&, const TextRange&) = default;
};

struct RenderedChat {
  std::string text;
  // In order, at ends of characters. No added token is seen within one or across one of its ends;
  // an empty range is such an end alone.
  std::vector<TextRange> plain = {};
};

}  // namespace sheaf

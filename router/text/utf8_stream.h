#pragma once
// Utf8Stream turns bytes that arrive in pieces into text of whole UTF-8 characters.
//
// What is not UTF-8 becomes U+FFFD, one for each maximal beginning of a character (the Unicode
// standard's recommendation): the same text as decoding all bytes at once, wherever the pieces are
// cut.
// Threads  One at a time. Cost  O(bytes), at most 3 bytes are held.

#include <cstdint>
#include <string>
#include <string_view>

namespace sheaf {

class Utf8Stream {
 public:
  // Appends to `text` the characters that `bytes` complete.
  void Push(std::string_view bytes, std::string& text);
  // The end of the stream: an unfinished character becomes U+FFFD.
  void Finish(std::string& text);

 private:
  void Begin(uint8_t byte, std::string& text);

  std::string held_;      // the beginning of a character
  int num_missing_ = 0;   // bytes that it still needs
  uint8_t min_next_ = 0;  // bounds of the next of them
  uint8_t max_next_ = 0;
};

}  // namespace sheaf

#pragma once
// JSON as text: whether a text is JSON, what number it is, and strings written as JSON in pieces.
//
// Text       UTF-8 (it is not checked again); pieces may be cut anywhere, also within a character.
// JSON       RFC 8259, and stricter where a widely used reader refuses: a lone surrogate escape and
//            more than kMaxJsonDepth levels are not JSON here. Numbers may have any size.
// Threads    Functions are pure; a JsonStringWriter belongs to one string.
// Cost       O(bytes), no allocation but the output's.

#include <string>
#include <string_view>

namespace sheaf {

// Readers that limit the depth limit it to 128; a value is a level below the arguments object.
inline constexpr int kMaxJsonDepth = 100;

// One JSON value, white space around it allowed.
bool IsJson(std::string_view text);

// A JSON number without white space; IsJsonInteger: one without fraction and exponent.
bool IsJsonNumber(std::string_view text);
bool IsJsonInteger(std::string_view text);

// ASCII white space: all that the output formats put beside their tags.
inline bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
std::string_view StripSpace(std::string_view text);

// Writes the inside of one JSON string. U+0085, U+2028 and U+2029 are escaped too: they are legal
// in JSON, but readers that split a stream into lines break on them.
class JsonStringWriter {
 public:
  // Appends the JSON of `piece` to `json`; at most two bytes of a possible line separator wait.
  void Append(std::string_view piece, std::string& json);
  // The string ends: what waited.
  void Finish(std::string& json);

 private:
  std::string_view held_;  // a literal: the beginning of a character that may need an escape
};

// `text` as a JSON string with its quotes.
void AppendJsonString(std::string_view text, std::string& json);

}  // namespace sheaf

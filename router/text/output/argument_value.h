#pragma once
// ArgumentValue turns the raw text of one argument of a tool call, as the model writes it, into
// JSON of a declared type.
//
// Models write strings as they are and everything else as JSON, so the text alone does not say what
// it is: the declared types do. The first of null > integer > number > boolean > object > array >
// string that is allowed and that the text reads as wins. Text that is none of them stays what it
// is: JSON if it is valid JSON, else a string.
// Kept     Strings are not stripped, everything else is. Numbers keep their own digits. Objects and
//          arrays are passed on as written. "True", "False" and "None" count as JSON's words.
// Streams  A value that can only be a string is given out while it comes; one that may also be null
//          from the moment it cannot be null; any other when it is complete.
// Threads  One at a time. Cost  O(bytes); memory: what is not given out yet.

#include <string>
#include <string_view>

#include "router/text/output/json_text.h"
#include "router/text/output/json_types.h"

namespace sheaf {

class ArgumentValue {
 public:
  // Appends to `json` what is certain before any text.
  void Begin(JsonTypes types, std::string& json);
  void Push(std::string_view text, std::string& json);
  // The value ends: the rest of its JSON.
  void Finish(std::string& json);

 private:
  enum class Mode { kString, kStringOrNull, kWhole };

  void BeginString(std::string& json);
  bool MayBeNull(std::string_view text);

  Mode mode_ = Mode::kWhole;
  JsonTypes types_;
  JsonStringWriter string_;
  std::string held_;            // the text so far; empty when it is given out as a string
  std::string_view null_word_;  // kStringOrNull: the spelling that has begun; empty: white space
  size_t null_matched_ = 0;     // and how many of its characters have come
};

// A whole value at once.
std::string ArgumentJson(std::string_view raw, JsonTypes types);

}  // namespace sheaf

#pragma once
// Regular expressions of clients, checked before they go into a grammar.
//
// Taken      Rust's syntax, which has no look-around and no back references. Anchors are allowed at
//            the ends. Within a JSON Schema a pattern is found anywhere in the text and its classes
//            are JavaScript's.
// Errors     kInvalidArgument "`where`: what is wrong, near byte N".
// Cost       Bounded: at most 16 KiB of text. A few hundred microseconds.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sheaf {

// The expression itself, for a whole text.
absl::StatusOr<std::string> CheckedRegex(std::string_view regex, std::string_view where);

absl::Status CheckPattern(std::string_view pattern, std::string_view where);

// A pattern as an expression for whole texts.
absl::StatusOr<std::string> PatternForWholeText(std::string_view pattern, std::string_view where);

}  // namespace sheaf

#pragma once
// FindHostileShape: what a JSON text has too much of to be parsed, found without parsing it.
//
// A parsed value takes 16 bytes and more, so a list of numbers takes ten times its text; objects
// keep their keys in a list, so many keys cost the square of their number.
// Threads: pure. Cost: O(bytes), 1 GB/s.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace sheaf {

inline constexpr size_t kMaxJsonDepth = 64;
inline constexpr size_t kMaxJsonKeys = 4096;           // of one object
inline constexpr size_t kMaxJsonValues = 2u << 20;     // of a whole text

// "nested deeper than 64 levels"; nothing: it may be parsed. Looks at brackets, colons, commas and
// strings only; whether it is JSON is for the parser to say.
std::optional<std::string> FindHostileShape(std::string_view text);

}  // namespace sheaf

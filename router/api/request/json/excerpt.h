#pragma once
// Excerpt: what an error message quotes of a client's input, which may have megabytes.
//
// Threads: pure. Cost: O(max_bytes).

#include <cstddef>
#include <string>
#include <string_view>

namespace sheaf {

inline constexpr size_t kMaxQuotedBytes = 200;
inline constexpr size_t kMaxMessageBytes = 1000;  // of one field's description, quotes included

// `text` if it has at most `max_bytes`; else its beginning, cut between two characters of UTF-8,
// and how long it is: "abc... (5242880 bytes)".
std::string Excerpt(std::string_view text, size_t max_bytes = kMaxQuotedBytes);

}  // namespace sheaf

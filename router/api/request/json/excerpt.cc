#include "router/api/request/json/excerpt.h"

#include "absl/strings/str_format.h"

namespace sheaf {

std::string Excerpt(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  constexpr size_t kLongestTail = 3;  // bytes of a character after its first
  size_t end = max_bytes;
  while (end > 0 && max_bytes - end < kLongestTail &&
         (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
    --end;
  }
  return absl::StrFormat("%s... (%d bytes)", text.substr(0, end), text.size());
}

}  // namespace sheaf

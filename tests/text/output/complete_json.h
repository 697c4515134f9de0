#pragma once
// Another library's complete JSON parser, as the judge of ours.

#include <cctype>
#include <string>
#include <string_view>

#include "base/json_nul.h"
#include "nlohmann/json.hpp"

namespace sheaf::testing {

// That parser refuses numbers beyond a double, ours reads any. Outside of strings, runs of digits
// are shortened: what was JSON stays JSON, what was not stays none.
inline std::string ShortNumbers(std::string_view json) {
  std::string text;
  int digits = 0;
  bool in_string = false;
  bool escaped = false;
  for (const char c : json) {
    if (in_string) {
      in_string = escaped || c != '"';
      escaped = !escaped && c == '\\';
      text.push_back(c);
      continue;
    }
    in_string = c == '"';
    digits = std::isdigit(static_cast<unsigned char>(c)) != 0 ? digits + 1 : 0;
    if (digits <= 2) text.push_back(c);
  }
  return text;
}

// The value, discarded (is_discarded()) when it is not JSON.
inline nlohmann::json ParseCompletely(std::string_view json) {
  if (HasNul(json)) return nlohmann::json(nlohmann::json::value_t::discarded);
  return nlohmann::json::parse(ShortNumbers(json), /*cb=*/nullptr, /*allow_exceptions=*/false);
}

inline bool IsCompleteJson(std::string_view json) { return !ParseCompletely(json).is_discarded(); }

}  // namespace sheaf::testing

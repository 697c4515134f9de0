#include "router/api/request/json/json_shape.h"

#include <vector>

namespace sheaf {

std::optional<std::string> FindHostileShape(std::string_view text) {
  std::vector<size_t> keys;
  size_t values = 1;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    switch (c) {
      case '"':
        in_string = true;
        break;
      case '{':
      case '[':
        if (keys.size() == kMaxJsonDepth) {
          return "nested deeper than " + std::to_string(kMaxJsonDepth) + " levels";
        }
        keys.push_back(0);
        ++values;
        break;
      case ',':
        ++values;
        break;
      case '}':
      case ']':
        if (!keys.empty()) keys.pop_back();
        break;
      case ':':
        if (!keys.empty() && ++keys.back() > kMaxJsonKeys) {
          return "an object has more than " + std::to_string(kMaxJsonKeys) + " keys";
        }
        break;
      default:
        break;
    }
    if (values > kMaxJsonValues) {
      return "it has more than " + std::to_string(kMaxJsonValues) + " values";
    }
  }
  return std::nullopt;
}

}  // namespace sheaf

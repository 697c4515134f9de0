#include "router/api/openai/json_append.h"

#include <algorithm>
#include <charconv>

#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

bool IsPlain(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x20 && byte < 0x7F && c != '"' && c != '\\';
}

}  // namespace

void AppendQuoted(std::string_view text, std::string& out) {
  const auto first = std::find_if_not(text.begin(), text.end(), IsPlain);
  if (first != text.end()) {
    // A lone line end is by far the most frequent of the others.
    out += text == "\n" ? "\"\\n\"" : JsonText(text);
    return;
  }
  out += '"';
  out += text;
  out += '"';
}

void AppendJsonInteger(int64_t value, std::string& out) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  out.append(digits, end);
}

void AppendJsonNumber(double value, std::string& out) { out += JsonText(value); }

void AppendJsonIds(std::span<const TokenId> ids, std::string& out) {
  out += '[';
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    AppendJsonInteger(ids[i], out);
  }
  out += ']';
}

}  // namespace sheaf

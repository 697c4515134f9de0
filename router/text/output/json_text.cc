#include "router/text/output/json_text.h"

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace sheaf {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// White space between JSON tokens: fewer characters than IsSpace.
bool IsJsonSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Walks over a text; each Skip function leaves the position after what it names and says whether
// that was there.
class JsonScanner {
 public:
  explicit JsonScanner(std::string_view text) : text_(text) {}

  bool AtEnd() const { return at_ == text_.size(); }

  bool SkipNumber(bool* is_integer) {
    *is_integer = true;
    Skip('-');
    if (!Skip('0') && !SkipDigits()) return false;
    if (Skip('.')) {
      *is_integer = false;
      if (!SkipDigits()) return false;
    }
    if (Skip('e') || Skip('E')) {
      *is_integer = false;
      if (!Skip('+')) Skip('-');
      if (!SkipDigits()) return false;
    }
    return true;
  }

  // A whole text: one value, white space around it.
  bool SkipDocument() {
    std::bitset<kMaxJsonDepth> is_object;  // of each open container
    int depth = 0;
    while (true) {
      SkipSpace();
      bool opened = false;
      if (Skip('{') || Skip('[')) {
        if (depth == kMaxJsonDepth) return false;
        is_object[depth] = text_[at_ - 1] == '{';
        ++depth;
        opened = true;
        SkipSpace();
      } else if (!SkipScalar()) {
        return false;
      }
      // After a value or a container's opening: close what ends here, then go to the next value.
      while (true) {
        if (depth == 0) {
          SkipSpace();
          return AtEnd();
        }
        SkipSpace();
        if (Skip(is_object[depth - 1] ? '}' : ']')) {
          --depth;
          opened = false;
          continue;
        }
        break;
      }
      if (!opened && !Skip(',')) return false;
      if (is_object[depth - 1]) {
        SkipSpace();
        if (!SkipString()) return false;
        SkipSpace();
        if (!Skip(':')) return false;
      }
    }
  }

 private:
  bool Skip(char c) {
    if (AtEnd() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void SkipSpace() {
    while (!AtEnd() && IsJsonSpace(text_[at_])) ++at_;
  }

  bool SkipDigits() {
    const size_t begin = at_;
    while (!AtEnd() && IsDigit(text_[at_])) ++at_;
    return at_ > begin;
  }

  bool SkipWord(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  bool SkipScalar() {
    if (AtEnd()) return false;
    switch (text_[at_]) {
      case '"':
        return SkipString();
      case 't':
        return SkipWord("true");
      case 'f':
        return SkipWord("false");
      case 'n':
        return SkipWord("null");
      default: {
        bool is_integer;
        return SkipNumber(&is_integer);
      }
    }
  }

  bool SkipString() {
    if (!Skip('"')) return false;
    while (!AtEnd()) {
      const char c = text_[at_++];
      if (c == '"') return true;
      if (static_cast<uint8_t>(c) < 0x20) return false;
      if (c == '\\' && !SkipEscape()) return false;
    }
    return false;
  }

  // What follows a backslash.
  bool SkipEscape() {
    if (AtEnd()) return false;
    const char c = text_[at_++];
    if (c != 'u') return std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos;
    uint32_t unit = 0;
    if (!SkipCodeUnit(&unit)) return false;
    if (unit < 0xD800 || unit > 0xDFFF) return true;
    if (unit > 0xDBFF) return false;
    uint32_t low = 0;
    return Skip('\\') && Skip('u') && SkipCodeUnit(&low) && low >= 0xDC00 && low <= 0xDFFF;
  }

  bool SkipCodeUnit(uint32_t* unit) {
    for (int digit = 0; digit < 4; ++digit) {
      if (AtEnd()) return false;
      const char c = text_[at_++];
      uint32_t value;
      if (IsDigit(c)) {
        value = c - '0';
      } else if (const char lower = static_cast<char>(c | 0x20); lower >= 'a' && lower <= 'f') {
        value = lower - 'a' + 10;
      } else {
        return false;
      }
      *unit = *unit << 4 | value;
    }
    return true;
  }

  const std::string_view text_;
  size_t at_ = 0;
};

// The characters that break line readers, and the beginnings that may become one of them.
constexpr std::string_view kNextLine = "\xC2\x85";
constexpr std::string_view kLineSeparator = "\xE2\x80\xA8";
constexpr std::string_view kParagraphSeparator = "\xE2\x80\xA9";

void AppendControl(char c, std::string& json) {
  switch (c) {
    case '\b':
      json += "\\b";
      return;
    case '\f':
      json += "\\f";
      return;
    case '\n':
      json += "\\n";
      return;
    case '\r':
      json += "\\r";
      return;
    case '\t':
      json += "\\t";
      return;
    default: {
      constexpr char kHex[] = "0123456789abcdef";
      json += "\\u00";
      json.push_back(kHex[static_cast<uint8_t>(c) >> 4]);
      json.push_back(kHex[c & 0xF]);
    }
  }
}

}  // namespace

bool IsJson(std::string_view text) { return JsonScanner(text).SkipDocument(); }

bool IsJsonNumber(std::string_view text) {
  JsonScanner scanner(text);
  bool is_integer;
  return scanner.SkipNumber(&is_integer) && scanner.AtEnd();
}

bool IsJsonInteger(std::string_view text) {
  JsonScanner scanner(text);
  bool is_integer;
  return scanner.SkipNumber(&is_integer) && scanner.AtEnd() && is_integer;
}

std::string_view StripSpace(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

void JsonStringWriter::Append(std::string_view piece, std::string& json) {
  for (size_t i = 0; i < piece.size();) {
    const char c = piece[i];
    if (held_.empty()) {
      if (c == kNextLine[0]) {
        held_ = kNextLine.substr(0, 1);
      } else if (c == kLineSeparator[0]) {
        held_ = kLineSeparator.substr(0, 1);
      } else if (static_cast<uint8_t>(c) < 0x20) {
        AppendControl(c, json);
      } else {
        if (c == '"' || c == '\\') json.push_back('\\');
        json.push_back(c);
      }
      ++i;
    } else if (held_ == kLineSeparator.substr(0, 1) && c == kLineSeparator[1]) {
      held_ = kLineSeparator.substr(0, 2);
      ++i;
    } else if (held_ == kNextLine.substr(0, 1) && c == kNextLine[1]) {
      json += "\\u0085";
      held_ = {};
      ++i;
    } else if (held_.size() == 2 && (c == kLineSeparator[2] || c == kParagraphSeparator[2])) {
      json += c == kLineSeparator[2] ? "\\u2028" : "\\u2029";
      held_ = {};
      ++i;
    } else {
      Finish(json);  // and look at c again
    }
  }
}

void JsonStringWriter::Finish(std::string& json) { json += std::exchange(held_, {}); }

void AppendJsonString(std::string_view text, std::string& json) {
  JsonStringWriter writer;
  json.push_back('"');
  writer.Append(text, json);
  writer.Finish(json);
  json.push_back('"');
}

}  // namespace sheaf

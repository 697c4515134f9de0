#include "router/text/utf8_stream.h"

namespace sheaf {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

void Utf8Stream::Push(std::string_view bytes, std::string& text) {
  for (const char c : bytes) {
    const uint8_t byte = static_cast<uint8_t>(c);
    if (num_missing_ == 0) {
      Begin(byte, text);
      continue;
    }
    if (byte < min_next_ || byte > max_next_) {
      Finish(text);
      Begin(byte, text);
      continue;
    }
    held_.push_back(c);
    min_next_ = 0x80;
    max_next_ = 0xBF;
    if (--num_missing_ == 0) {
      text += held_;
      held_.clear();
    }
  }
}

void Utf8Stream::Finish(std::string& text) {
  if (num_missing_ == 0) return;
  text += kReplacement;
  held_.clear();
  num_missing_ = 0;
}

void Utf8Stream::Begin(uint8_t byte, std::string& text) {
  if (byte < 0x80) {
    text.push_back(static_cast<char>(byte));
    return;
  }
  min_next_ = 0x80;
  max_next_ = 0xBF;
  if (byte >= 0xC2 && byte <= 0xDF) {
    num_missing_ = 1;
  } else if (byte >= 0xE0 && byte <= 0xEF) {
    num_missing_ = 2;
    if (byte == 0xE0) min_next_ = 0xA0;  // below: could be written shorter
    if (byte == 0xED) max_next_ = 0x9F;  // above: surrogates
  } else if (byte >= 0xF0 && byte <= 0xF4) {
    num_missing_ = 3;
    if (byte == 0xF0) min_next_ = 0x90;
    if (byte == 0xF4) max_next_ = 0x8F;  // above: beyond U+10FFFF
  } else {
    text += kReplacement;
    return;
  }
  held_.push_back(static_cast<char>(byte));
}

}  // namespace sheaf

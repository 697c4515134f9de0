#include "router/text/output/tag_scanner.h"

#include <algorithm>
#include <utility>

namespace sheaf {

TagScanner::TagScanner(const OutputTags& tags, bool think_tags, bool call_tags)
    : ids_(tags.InOrder()), think_tags_(think_tags), call_tags_(call_tags) {
  for (size_t tag = 0; tag < kNumOutputTags; ++tag) {
    has_text_tags_ |= IsWanted(tag) && !ids_[tag].has_value();
  }
}

bool TagScanner::IsWanted(size_t tag) const {
  return tag <= static_cast<size_t>(OutputTag::kThinkEnd) ? think_tags_ : call_tags_;
}

std::optional<OutputTag> TagScanner::TagOf(TokenId id) const {
  for (size_t tag = 0; tag < kNumOutputTags; ++tag) {
    if (ids_[tag] == id && IsWanted(tag)) return static_cast<OutputTag>(tag);
  }
  return std::nullopt;
}

std::optional<OutputTag> TagScanner::TextTagBeginningWith(std::string_view text) const {
  for (size_t tag = 0; tag < kNumOutputTags; ++tag) {
    if (IsWanted(tag) && !ids_[tag].has_value() &&
        OutputTagText(static_cast<OutputTag>(tag)).starts_with(text)) {
      return static_cast<OutputTag>(tag);
    }
  }
  return std::nullopt;
}

std::optional<TagScanner::Item> TagScanner::Next(std::string_view& text) {
  if (text.empty()) return std::nullopt;
  if (held_.empty()) {
    // Every tag begins with '<' and has no other.
    const size_t ordinary = has_text_tags_ ? std::min(text.find('<'), text.size()) : text.size();
    if (ordinary > 0) {
      const Item item{std::nullopt, text.substr(0, ordinary)};
      text.remove_prefix(ordinary);
      return item;
    }
  }
  while (!text.empty()) {
    held_.push_back(text.front());
    const std::optional<OutputTag> tag = TextTagBeginningWith(held_);
    if (!tag.has_value()) {
      held_.pop_back();  // not empty now: '<' alone begins every tag
      return Item{std::nullopt, Flush()};
    }
    text.remove_prefix(1);
    if (OutputTagText(*tag) == held_) {
      held_.clear();
      return Item{tag, OutputTagText(*tag)};
    }
  }
  return std::nullopt;
}

std::string_view TagScanner::Flush() {
  flushed_ = std::exchange(held_, {});
  return flushed_;
}

}  // namespace sheaf

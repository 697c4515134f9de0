#include "router/text/output/token_aligned_text.h"

#include <algorithm>
#include <utility>

namespace sheaf {
namespace {

void AddOrdinary(std::string_view text, std::vector<TextPiece>& pieces) {
  if (!text.empty()) pieces.push_back({std::nullopt, std::string(text)});
}

}  // namespace

TokenAlignedText::TokenAlignedText(const OutputTags& tags,
                                   const std::function<size_t(TokenId)>& shown_bytes) {
  for (const std::optional<TokenId> id : tags.InOrder()) {
    if (id) tags_.push_back({*id, static_cast<int64_t>(shown_bytes(*id))});
  }
}

void TokenAlignedText::Push(TokenId token, std::string_view text, int64_t text_end,
                            std::vector<TextPiece>& pieces) {
  if (text_end < 0) {
    text_end = passed_ + static_cast<int64_t>(held_.size() + text.size());
  }
  const auto tag = std::find_if(tags_.begin(), tags_.end(),
                                [token](const Tag& known) { return known.id == token; });
  // A token that ends the output (a stop token) has no text in it though it may be a tag.
  if (tag != tags_.end() && text_end - tag->size >= last_end_) {
    expected_.push_back({*tag, text_end - tag->size});
  }
  last_end_ = text_end;
  AddText(text, pieces);
}

void TokenAlignedText::Finish(std::string_view text, std::vector<TextPiece>& pieces) {
  AddText(text, pieces);
  expected_.clear();
  AddOrdinary(std::exchange(held_, {}), pieces);
}

void TokenAlignedText::AddText(std::string_view text, std::vector<TextPiece>& pieces) {
  while (!expected_.empty()) {
    const PlacedTag& next = expected_.front();
    const size_t before = std::min(static_cast<size_t>(next.begin - passed_), text.size());
    AddOrdinary(text.substr(0, before), pieces);
    text.remove_prefix(before);
    passed_ += static_cast<int64_t>(before);
    if (passed_ < next.begin) return;
    const size_t missing = static_cast<size_t>(next.tag.size) - held_.size();
    held_ += text.substr(0, missing);
    text.remove_prefix(std::min(missing, text.size()));
    if (held_.size() < static_cast<size_t>(next.tag.size)) return;
    pieces.push_back({next.tag.id, std::exchange(held_, {})});
    passed_ += next.tag.size;
    expected_.pop_front();
  }
  AddOrdinary(text, pieces);
  passed_ += static_cast<int64_t>(text.size());
}

}  // namespace sheaf

#include "router/text/grammar/lark_writer.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace sheaf {

MarkupTokens FindMarkupTokens(const Tokenizer& tokenizer) {
  MarkupTokens markup;
  for (const AddedToken& token : tokenizer.AddedTokens()) {
    if (!token.special) markup.emplace_back(std::string(token.text), token.id);
  }
  std::stable_sort(markup.begin(), markup.end(),
                   [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
  return markup;
}

std::string LarkString(std::string_view text) {
  // Lark's strings are JSON's, with control characters and DEL escaped.
  return nlohmann::json(text).dump(/*indent=*/-1, /*indent_char=*/' ', /*ensure_ascii=*/true);
}

std::string LarkRegex(std::string_view whole_match_regex) {
  if (whole_match_regex.empty()) return "\"\"";
  std::string lark = "/";
  for (size_t i = 0; i < whole_match_regex.size(); ++i) {
    const char c = whole_match_regex[i];
    if (c == '\\' && i + 1 < whole_match_regex.size()) {
      lark += c;
      lark += whole_match_regex[++i];
    } else if (c == '/') {
      lark += "\\/";
    } else if (c == '\n') {
      lark += "\\n";
    } else if (c == '\r') {
      lark += "\\r";
    } else {
      lark += c;
    }
  }
  return lark + "/";
}

std::string LarkToken(TokenId id) { return absl::StrFormat("<[%d]>", id); }

std::string LarkJson(std::string_view schema_json) {
  return absl::StrFormat("%%json %s", schema_json);
}

std::string LarkWriter::Literal(std::string_view text) const {
  std::vector<std::string> parts;
  size_t begin = 0;
  const auto flush = [&](size_t end) {
    if (end > begin) parts.push_back(LarkString(text.substr(begin, end - begin)));
  };
  for (size_t at = 0; at < text.size();) {
    const auto found = std::find_if(markup_.begin(), markup_.end(), [&](const auto& token) {
      return text.substr(at).starts_with(token.first);
    });
    if (found == markup_.end()) {
      ++at;
      continue;
    }
    flush(at);
    parts.push_back(LarkToken(found->second));
    at += found->first.size();
    begin = at;
  }
  flush(text.size());
  if (parts.empty()) return "\"\"";
  std::string lark;
  for (const std::string& part : parts) lark += (lark.empty() ? "" : " ") + part;
  return lark;
}

const TokenId* LarkWriter::FindToken(std::string_view text) const {
  for (const auto& [token_text, id] : markup_) {
    if (token_text == text) return &id;
  }
  return nullptr;
}

bool LarkWriter::HasMarkup(std::string_view text) const {
  return std::any_of(markup_.begin(), markup_.end(), [&](const auto& token) {
    return text.find(token.first) != std::string_view::npos;
  });
}

std::string LarkWriter::Define(const char* prefix, const char* attributes,
                               const std::string& body) {
  const std::string key = absl::StrFormat("%s%s%s", prefix, attributes, body);
  const auto [entry, is_new] = names_.try_emplace(key);
  if (is_new) {
    entry->second = absl::StrFormat("%s%d", prefix, names_.size());
    text_ += absl::StrFormat("%s%s: %s\n", entry->second, attributes, body);
  }
  return entry->second;
}

std::string LarkWriter::Finish(const std::string& start) const {
  return absl::StrFormat("start: %s\n%s", start, text_);
}

}  // namespace sheaf

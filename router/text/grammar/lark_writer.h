#pragma once
// LarkWriter puts a grammar together in llguidance's dialect of Lark.
//
// Names      Rules that it makes itself are r0, r1, ..., terminals T0, T1, ...; the same body is
//            one rule, however often it is asked for.
// Literals   Text of the model's own markup ("<tool_call>") becomes the tokenizer's token where it
//            has one, as the model writes it. Everything else stays text.
// Threads    One at a time. The tokenizer's added tokens are read once, by MarkupTokens.

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "router/text/tokenizer.h"

namespace sheaf {

// The added tokens that may stand in output (not the control tokens), longest text first.
using MarkupTokens = std::vector<std::pair<std::string, TokenId>>;

MarkupTokens FindMarkupTokens(const Tokenizer& tokenizer);

// Lark's own notation. All are valid within a rule; the first two within a terminal too.
std::string LarkString(std::string_view text);
std::string LarkRegex(std::string_view whole_match_regex);
std::string LarkToken(TokenId id);
// `schema_json` is an object.
std::string LarkJson(std::string_view schema_json);

class LarkWriter {
 public:
  explicit LarkWriter(const MarkupTokens& markup) : markup_(markup) {}

  // A rule or terminal with this body; gives its name.
  std::string Rule(const std::string& body) { return Define("r", "", body); }
  std::string Terminal(const std::string& body) { return Define("T", "", body); }
  // A terminal for the shortest match of `regex`.
  std::string LazyRule(const std::string& regex) { return Define("r", "[lazy]", regex); }

  // As tokens and strings in sequence; never empty ("" for an empty text).
  std::string Literal(std::string_view text) const;
  // The token that is all of `text`, if there is one.
  const TokenId* FindToken(std::string_view text) const;
  // Whether any markup token's text is within `text`.
  bool HasMarkup(std::string_view text) const;

  size_t num_rules() const { return names_.size(); }

  // The grammar, once `start` is its first rule's body.
  std::string Finish(const std::string& start) const;

 private:
  std::string Define(const char* prefix, const char* attributes, const std::string& body);

  const MarkupTokens& markup_;
  std::map<std::string, std::string> names_;  // by definition
  std::string text_;
};

}  // namespace sheaf

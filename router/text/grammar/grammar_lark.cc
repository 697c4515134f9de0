#include "router/text/grammar/grammar_lark.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "router/text/grammar/forced_text.h"
#include "router/text/grammar/json_schema.h"
#include "router/text/grammar/regex_text.h"
#include "router/text/grammar/structural_tag.h"
#include "router/text/grammar/tool_calls.h"

namespace sheaf {
namespace {

// llguidance recurses over rules.
constexpr size_t kMaxLarkBytes = size_t{64} << 10;
constexpr size_t kMaxChoices = 10'000;

absl::StatusOr<std::string> SchemaLark(std::string_view text, bool any_whitespace) {
  SHEAF_ASSIGN_OR_RETURN(SchemaJson schema, PrepareSchema(text, "JSON schema "));
  return "start: " + LarkJson(SchemaForGrammar(std::move(schema), any_whitespace));
}

absl::StatusOr<std::string> RegexLark(std::string_view text) {
  SHEAF_ASSIGN_OR_RETURN(const std::string regex, CheckedRegex(text, "regex"));
  return "start: " + LarkRegex(regex);
}

absl::StatusOr<std::string> ChoiceLark(std::string_view text) {
  SHEAF_ASSIGN_OR_RETURN(const SchemaJson choices, ParseSchemaText(text, "choice: "));
  if (!choices.is_array() || choices.empty()) {
    return absl::InvalidArgumentError("choice: must be a list of strings that is not empty");
  }
  if (choices.size() > kMaxChoices) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "choice: %d strings, more than the limit of %d", choices.size(), kMaxChoices));
  }
  std::set<std::string> distinct;
  std::string alternatives;
  bool may_be_empty = false;
  for (size_t i = 0; i < choices.size(); ++i) {
    if (!choices[i].is_string()) {
      return absl::InvalidArgumentError(absl::StrFormat("choice[%d]: must be a string", i));
    }
    const std::string& choice = choices[i].get_ref<const std::string&>();
    if (choice.size() > kMaxForcedBytes) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "choice[%d]: %d bytes, more than the limit of %d", i, choice.size(), kMaxForcedBytes));
    }
    if (choice.empty()) {
      may_be_empty = true;
    } else if (distinct.insert(choice).second) {
      alternatives += (alternatives.empty() ? "" : " | ") + LarkString(choice);
    }
  }
  if (alternatives.empty()) return std::string("start: \"\"");
  // One terminal for all: the lexer's states are then a tree of the choices.
  return absl::StrFormat("start: CHOICE%s\nCHOICE: %s", may_be_empty ? "?" : "", alternatives);
}

absl::StatusOr<std::string> UserLark(const std::string& text) {
  if (text.find("::=") != std::string::npos) {
    return absl::InvalidArgumentError(
        "grammar: this is GBNF (\"::=\"), which is not supported; write it in Lark "
        "(\"start: ...\")");
  }
  if (text.size() > kMaxLarkBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "grammar: %d bytes, more than the limit of %d", text.size(), kMaxLarkBytes));
  }
  return text;
}

absl::StatusOr<std::string> CallsLark(const ToolCallGrammar& calls, const MarkupTokens& markup) {
  if (calls.or_answer == nullptr) return ToolCallsLark(calls, "", markup);
  if (calls.or_answer->kind == GrammarKind::kToolCalls) {
    return absl::InvalidArgumentError("the answer instead of tool calls cannot be tool calls");
  }
  SHEAF_ASSIGN_OR_RETURN(const std::string answer, GrammarLark(*calls.or_answer, markup));
  return ToolCallsLark(calls, answer, markup);
}

}  // namespace

absl::StatusOr<std::string> GrammarLark(const GrammarSpec& spec, const MarkupTokens& markup) {
  switch (spec.kind) {
    case GrammarKind::kJsonSchema:
      return SchemaLark(spec.text, spec.any_whitespace);
    case GrammarKind::kJsonObject:
      return SchemaLark(R"({"type": "object"})", spec.any_whitespace);
    case GrammarKind::kRegex:
      return RegexLark(spec.text);
    case GrammarKind::kChoice:
      return ChoiceLark(spec.text);
    case GrammarKind::kLark:
      return UserLark(spec.text);
    case GrammarKind::kStructuralTag:
      return StructuralTagLark(spec.text, spec.any_whitespace, markup);
    case GrammarKind::kToolCalls:
      return CallsLark(spec.tool_calls, markup);
  }
  return absl::InternalError("a kind of grammar that is not known");
}

}  // namespace sheaf

#pragma once
// The grammar of tool calls in the models' own format.
//
// Arguments  In the schema's order: required ones always, optional ones at will. Keys beyond
//            `properties` only where the schema speaks of them (`additionalProperties` is a schema
//            or true); those come last.
// Values     A string is raw text up to the closing tag (raw_value.h); everything else is compact
//            JSON. The schema's $defs go along.
// Text       Around calls, where allowed: anything but the opening tag and other markup tokens.
// Answers    Text instead of calls (ToolCallGrammar::or_answer) is a grammar nested in this one.
// Errors     kInvalidArgument "tool \"name\": $.path: ...". The root of a strict tool's schema is
//            an object with properties; other keywords there are refused by name.

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/grammar/grammar_spec.h"
#include "router/text/grammar/lark_writer.h"

namespace sheaf {

// `answer_lark` is the Lark of `grammar.or_answer`, empty where there is none.
absl::StatusOr<std::string> ToolCallsLark(const ToolCallGrammar& grammar,
                                          std::string_view answer_lark, const MarkupTokens& markup);

}  // namespace sheaf

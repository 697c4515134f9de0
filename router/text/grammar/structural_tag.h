#pragma once
// The grammar of a structural tag: free text with parts that follow a schema, in both published
// forms, {"structures", "triggers"} and {"format"}.
//
// Formats    const_string, json_schema, regex, any_text, sequence, or, tag, triggered_tags,
//            tags_with_separator. any_text ends where its tag ends or the whole text does; it
//            stands nowhere else.
// Markup     Text of the model's own tags in begin, end, triggers and separators is its token.
// Errors     kInvalidArgument "structural tag $.path: ...".

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/grammar/lark_writer.h"

namespace sheaf {

absl::StatusOr<std::string> StructuralTagLark(std::string_view text, bool any_whitespace,
                                              const MarkupTokens& markup);

}  // namespace sheaf

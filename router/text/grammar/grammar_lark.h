#pragma once
// What is asked for, as one grammar in llguidance's dialect of Lark.
//
// Threads    A pure function.
// Errors     kInvalidArgument: what is wrong, and where in the spec's text.
// Cost       Linear in the text.

#include <string>

#include "absl/status/statusor.h"
#include "router/text/grammar/grammar_spec.h"
#include "router/text/grammar/lark_writer.h"

namespace sheaf {

absl::StatusOr<std::string> GrammarLark(const GrammarSpec& spec, const MarkupTokens& markup);

}  // namespace sheaf

#pragma once
// Where in a spec the fault is, when llguidance only says what it is.
//
// By trying the parts alone: the innermost part that does not compile either has it. Only said when
// found within a fifth of a second.

#include <functional>
#include <string>

#include "router/text/grammar/grammar_spec.h"

namespace sheaf {

// "$.properties.a", "tool \"f\"", or empty. `compiles` says whether a spec does.
std::string FaultPlace(const GrammarSpec& spec,
                       const std::function<bool(const GrammarSpec&)>& compiles);

}  // namespace sheaf

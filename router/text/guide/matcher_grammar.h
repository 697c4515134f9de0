#pragma once
// A compiled grammar as the guide wants it (output_grammar.h): each sequence gets a matcher of its
// own.
//
// Ownership  keeps the compiled grammar alive. Threads: any. Errors: the matcher's.
// Cost       Start: tens of microseconds.

#include <memory>

#include "router/text/grammar/grammar_compiler.h"
#include "router/text/guide/output_grammar.h"

namespace sheaf {

std::shared_ptr<const OutputGrammar> MakeOutputGrammar(
    std::shared_ptr<const CompiledGrammar> compiled);

}  // namespace sheaf

#pragma once
// RequiredLiteral: a piece of text that every match of a regular expression contains; maybe empty.
//
// A config may hold a hundred expressions and a model ten thousand modules: looking for the piece
// first leaves few expressions to run.
//
// Threads    pure.

#include <string>
#include <string_view>

namespace sheaf {

std::string RequiredLiteral(std::string_view expression);

}  // namespace sheaf

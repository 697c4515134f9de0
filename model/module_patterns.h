#pragma once
// ModulePatterns: the modules that a quantization_config names, matched against many module names
// fast.
//
// An entry is a name (matches it, and names that end in "." + it) or "re:" and a regular
// expression, searched for anywhere. A config may hold a hundred expressions and a model ten
// thousand modules, so an expression's longest literal piece is looked for before the expression
// itself is run.
//
// Threads    const methods from any thread.
// Errors     an expression that model/quantization/module_regex.h does not take matches nothing.

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "model/quantization/module_regex.h"

namespace sheaf {

class ModulePatterns {
 public:
  explicit ModulePatterns(const std::vector<std::string>& entries);

  bool empty() const { return names_.empty() && expressions_.empty(); }
  bool MatchesName(std::string_view module) const;
  bool Matches(std::string_view module) const;  // names and expressions

 private:
  struct Expression {
    std::string literal;  // every match contains it
    ModuleRegex compiled;
  };
  std::unordered_set<std::string> names_;
  std::vector<Expression> expressions_;
};

// A piece of text that every match of the regular expression contains; maybe empty.
std::string RequiredLiteral(std::string_view expression);

}  // namespace sheaf

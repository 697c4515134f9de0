#pragma once
// ModulePatterns: the modules that a quantization_config names, matched against many module names
// fast.
//
// An entry is a name (matches it, and names that end in "." + it), "re:" and a regular expression
// that matches from the name's first character (Python's re.match), or "search:" and one that
// matches anywhere (re.search).
//
// Threads    const methods from any thread.
// Errors     an expression that model/quantization/module_regex.h does not take, and those after
//            the first kMaxExpressions, match nothing and are named by unread().

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "model/quantization/module_regex.h"

namespace sheaf {

class ModulePatterns {
 public:
  static constexpr size_t kMaxExpressions = 1000;

  explicit ModulePatterns(const std::vector<std::string>& entries);

  bool empty() const { return names_.empty() && expressions_.empty(); }
  bool MatchesName(std::string_view module) const;
  bool Matches(std::string_view module) const;  // names and expressions

  // "EXPRESSION: why", in the order of the entries.
  const std::vector<std::string>& unread() const { return unread_; }

 private:
  struct Expression {
    bool from_start = true;
    std::string literal;  // every match contains it
    ModuleRegex compiled;
  };
  std::unordered_set<std::string> names_;
  std::vector<Expression> expressions_;
  std::vector<std::string> unread_;
};

}  // namespace sheaf

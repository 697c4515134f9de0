#pragma once
// ModulePatterns: the modules that a quantization_config names, matched against many module names
// fast.
//
// An entry is a name (matches it, and names that end in "." + it), "re:" and a regular expression
// that matches from the name's first character (Python's re.match), or "search:" and one that
// matches anywhere (re.search). Expressions are RE2's: what a config writes for Python, but for
// look-around and references back.
//
// Threads    const methods from any thread.
// Errors     an expression that cannot be read matches nothing and is named by unread().
// Cost       whatever the text: compiling takes at most kMaxProgramSteps steps of RE2's programs in
//            all (some 20 MB) and milliseconds, matching is linear in the name.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace re2 {
class RE2;
}

namespace sheaf {

class ModulePatterns {
 public:
  static constexpr size_t kMaxExpressionBytes = 4096;
  static constexpr int kMaxProgramSteps = 1 << 18;

  explicit ModulePatterns(const std::vector<std::string>& entries);
  ModulePatterns(ModulePatterns&&) noexcept;
  ~ModulePatterns();

  bool empty() const { return names_.empty() && expressions_.empty(); }
  bool MatchesName(std::string_view module) const;
  bool Matches(std::string_view module) const;  // names and expressions

  // "EXPRESSION: why", in the order of the entries.
  const std::vector<std::string>& unread() const { return unread_; }

 private:
  struct Expression {
    bool from_start = true;
    std::unique_ptr<re2::RE2> compiled;
  };
  std::unordered_set<std::string> names_;
  std::vector<Expression> expressions_;
  std::vector<std::string> unread_;
};

}  // namespace sheaf

#include "model/module_patterns.h"

#include <cctype>
#include <utility>

namespace sheaf {
namespace {

bool IsQuantifier(char c) { return c == '*' || c == '?' || c == '{' || c == '+'; }

}  // namespace

std::string RequiredLiteral(std::string_view expression) {
  std::string best, run;
  int depth = 0;
  const auto end_run = [&] {
    if (run.size() > best.size()) best = run;
    run.clear();
  };
  for (size_t i = 0; i < expression.size(); ++i) {
    char c = expression[i];
    if (c == '|') return "";
    if (c == '[') {  // a class stands for one unknown character
      end_run();
      const bool negative = expression.substr(i + 1, 1) == "^";
      i += negative ? 2 : 1;
      for (size_t first = i; i < expression.size() && (expression[i] != ']' || i == first); ++i) {
        if (expression[i] == '\\') ++i;
      }
      continue;
    }
    if (c == '(' || c == ')') {  // a group may be optional
      end_run();
      depth += c == '(' ? 1 : -1;
      continue;
    }
    if (c == '{') {
      end_run();
      while (i < expression.size() && expression[i] != '}') ++i;
      continue;
    }
    bool literal = std::string_view(".^$*+?").find(c) == std::string_view::npos;
    if (c == '\\') {
      if (++i >= expression.size()) break;
      c = expression[i];
      literal = std::ispunct(static_cast<unsigned char>(c)) != 0;
    }
    const bool optional = i + 1 < expression.size() && IsQuantifier(expression[i + 1]);
    if (!literal || optional || depth != 0) {
      end_run();
    } else {
      run += c;
    }
  }
  end_run();
  return best;
}

ModulePatterns::ModulePatterns(const std::vector<std::string>& entries) {
  for (const std::string& entry : entries) {
    if (entry.rfind("re:", 0) != 0) {
      names_.insert(entry);
      continue;
    }
    const std::string text = entry.substr(3);
    auto expression = ModuleRegex::Compile(text);
    if (expression) expressions_.push_back({RequiredLiteral(text), *std::move(expression)});
  }
}

bool ModulePatterns::MatchesName(std::string_view module) const {
  for (std::string_view rest = module;;) {
    if (names_.count(std::string(rest)) != 0) return true;
    const size_t dot = rest.find('.');
    if (dot == std::string_view::npos) return false;
    rest.remove_prefix(dot + 1);
  }
}

bool ModulePatterns::Matches(std::string_view module) const {
  if (MatchesName(module)) return true;
  for (const Expression& expression : expressions_) {
    if (module.find(expression.literal) == std::string_view::npos) continue;
    if (expression.compiled.Searches(module)) return true;
  }
  return false;
}

}  // namespace sheaf

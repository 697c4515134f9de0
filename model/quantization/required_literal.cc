#include "model/quantization/required_literal.h"

#include <cctype>

namespace sheaf {
namespace {

constexpr std::string_view kClassesAndAnchors = "dDwWsSbBAZz";

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
    if (c == '|' || expression.substr(i, 2) == "(?") return "";
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
      // What else a backslash makes of the characters after it is not known here.
      if (!literal && kClassesAndAnchors.find(c) == std::string_view::npos) return "";
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

}  // namespace sheaf

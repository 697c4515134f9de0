#include "model/module_patterns.h"

#include <cctype>

namespace sheaf {
namespace {

constexpr size_t kMaxExpressionBytes = 512;

bool IsQuantifier(char c) { return c == '*' || c == '?' || c == '{' || c == '+'; }

// Python's spelling as a POSIX extended expression, for what configs use of it.
std::string ToPosix(std::string_view python) {
  std::string out;
  for (size_t i = 0; i < python.size(); ++i) {
    if (python.substr(i, 2) == "\\d") {
      out += "[0-9]";
      ++i;
    } else if (python.substr(i, 3) == "(?:") {
      out += '(';
      i += 2;
    } else {
      if (python[i] == '\\' && i + 1 < python.size()) out += python[i++];
      out += python[i];
    }
  }
  return out;
}

void FreeExpression(regex_t* expression) {
  regfree(expression);
  delete expression;
}

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
      while (i < expression.size() && expression[i] != ']') ++i;
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
    const std::string text = entry.substr(3, kMaxExpressionBytes);
    auto expression = std::make_unique<regex_t>();
    // What POSIX cannot say is left out: these patterns only feed remarks.
    if (regcomp(expression.get(), ToPosix(text).c_str(), REG_EXTENDED | REG_NOSUB) != 0) continue;
    expressions_.push_back({RequiredLiteral(text), {expression.release(), FreeExpression}});
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
  const std::string text(module);
  for (const Expression& expression : expressions_) {
    if (text.find(expression.literal) == std::string::npos) continue;
    if (regexec(expression.compiled.get(), text.c_str(), 0, nullptr, 0) == 0) return true;
  }
  return false;
}

}  // namespace sheaf

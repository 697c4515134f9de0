#include "model/quantization/module_patterns.h"

#include <utility>

#include "model/quantization/required_literal.h"

namespace sheaf {
namespace {

constexpr size_t kShownBytes = 60;

constexpr std::string_view kFromStart = "re:";
constexpr std::string_view kAnywhere = "search:";

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

}  // namespace

ModulePatterns::ModulePatterns(const std::vector<std::string>& entries) {
  for (const std::string& entry : entries) {
    const bool from_start = StartsWith(entry, kFromStart);
    if (!from_start && !StartsWith(entry, kAnywhere)) {
      names_.insert(entry);
      continue;
    }
    const std::string_view text =
        std::string_view(entry).substr(from_start ? kFromStart.size() : kAnywhere.size());
    auto compiled = ModuleRegex::Compile(text);
    if (expressions_.size() == kMaxExpressions) {
      compiled = absl::ResourceExhaustedError("too many expressions before it");
    }
    if (compiled.ok()) {
      expressions_.push_back({from_start, RequiredLiteral(text), *std::move(compiled)});
    } else {
      unread_.push_back(std::string(text.substr(0, kShownBytes)) + ": " +
                        std::string(compiled.status().message()));
    }
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
    const ModuleRegex& regex = expression.compiled;
    if (expression.from_start ? regex.Matches(module) : regex.Searches(module)) return true;
  }
  return false;
}

}  // namespace sheaf

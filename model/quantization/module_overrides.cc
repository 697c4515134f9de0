#include "model/quantization/module_overrides.h"

#include <utility>

#include "base/status.h"
#include "model/quantization/required_literal.h"

namespace sheaf {

void ModuleOverrides::AddName(const std::string& name, const ModuleHints& hints) {
  names_.emplace(name, hints);
}

absl::Status ModuleOverrides::AddExpression(std::string_view expression, Anchor anchor,
                                            const ModuleHints& hints) {
  if (expressions_.size() == kMaxExpressions) {
    return absl::ResourceExhaustedError("too many expressions before it");
  }
  SHEAF_ASSIGN_OR_RETURN(ModuleRegex regex, ModuleRegex::Compile(expression));
  expressions_.push_back({RequiredLiteral(expression), anchor, std::move(regex), hints});
  return absl::OkStatus();
}

void ModuleOverrides::AddRest(const ModuleHints& hints) {
  if (!rest_) rest_ = hints;
}

const ModuleHints* ModuleOverrides::Find(std::string_view module) const {
  for (std::string_view rest = module; !names_.empty();) {
    const auto at = names_.find(std::string(rest));
    if (at != names_.end()) return &at->second;
    const size_t dot = rest.find('.');
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  for (const Expression& expression : expressions_) {
    if (module.find(expression.literal) == std::string_view::npos) continue;
    const bool found = expression.anchor == Anchor::kStart ? expression.regex.Matches(module)
                                                           : expression.regex.Searches(module);
    if (found) return &expression.hints;
  }
  return rest_ ? &*rest_ : nullptr;
}

}  // namespace sheaf

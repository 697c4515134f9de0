#pragma once
// ModuleOverrides: what a quantization config says of some modules alone.
//
// Asked in this order, first match wins:
//   names        the module's own; then names that it ends in after a dot, the longest first
//   expressions  in the order of the config
//   the rest     what holds for every Linear
// That is GPTQModel's `dynamic` (expressions alone), auto-round's `extra_config` (names, suffixes,
// expressions) and compressed-tensors' targets (names, expressions, the class name Linear).
//
// Threads    const methods from any thread.
// Errors     AddExpression: kInvalidArgument with the reason where it cannot be read,
//            kResourceExhausted after kMaxExpressions of them; it then matches nothing.

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "model/quantization/module_regex.h"

namespace sheaf {

struct ModuleHints {
  int bits = 0;                   // 0 = not said
  int group_size = 0;             // -1 = one group a row, 0 = not said
  std::optional<bool> symmetric;  // nothing = not said
  std::string symmetric_source;   // for messages: `dynamic "+:.*k_proj" says sym false`
};

class ModuleOverrides {
 public:
  static constexpr size_t kMaxExpressions = 1000;
  enum class Anchor { kStart, kAnywhere };

  void AddName(const std::string& name, const ModuleHints& hints);
  absl::Status AddExpression(std::string_view expression, Anchor anchor, const ModuleHints& hints);
  void AddRest(const ModuleHints& hints);

  bool empty() const { return names_.empty() && expressions_.empty() && !rest_; }
  const ModuleHints* Find(std::string_view module) const;  // null = nothing said

 private:
  struct Expression {
    std::string literal;  // every match contains it
    Anchor anchor;
    ModuleRegex regex;
    ModuleHints hints;
  };
  std::unordered_map<std::string, ModuleHints> names_;
  std::vector<Expression> expressions_;
  std::optional<ModuleHints> rest_;
};

}  // namespace sheaf

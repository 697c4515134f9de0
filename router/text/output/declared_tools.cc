#include "router/text/output/declared_tools.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace sheaf {

absl::StatusOr<DeclaredTools> DeclaredTools::Create(std::span<const ToolDeclaration> declarations) {
  DeclaredTools result;
  for (size_t i = 0; i < declarations.size(); ++i) {
    const ToolDeclaration& declaration = declarations[i];
    if (declaration.name.empty()) {
      return absl::InvalidArgumentError(absl::StrFormat("tools[%d] has no name", i));
    }
    absl::StatusOr<ParameterTypes> parameters = ReadParameterTypes(declaration.parameters_json);
    if (!parameters.ok()) {
      return absl::InvalidArgumentError(absl::StrFormat("tools[%d] \"%s\": %s", i, declaration.name,
                                                        parameters.status().message()));
    }
    result.tools_.push_back({declaration.name, *std::move(parameters)});
  }
  std::sort(result.tools_.begin(), result.tools_.end(),
            [](const DeclaredTool& a, const DeclaredTool& b) { return a.name < b.name; });
  const auto twice = std::adjacent_find(
      result.tools_.begin(), result.tools_.end(),
      [](const DeclaredTool& a, const DeclaredTool& b) { return a.name == b.name; });
  if (twice != result.tools_.end()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tools: the name \"%s\" is declared twice", twice->name));
  }
  return result;
}

std::vector<DeclaredTool>::const_iterator DeclaredTools::LowerBound(std::string_view name) const {
  return std::lower_bound(
      tools_.begin(), tools_.end(), name,
      [](const DeclaredTool& tool, std::string_view wanted) { return tool.name < wanted; });
}

const DeclaredTool* DeclaredTools::Find(std::string_view name) const {
  const auto tool = LowerBound(name);
  return tool != tools_.end() && tool->name == name ? &*tool : nullptr;
}

const DeclaredTool* DeclaredTools::FindLongestPrefixOf(std::string_view text) const {
  while (true) {
    auto tool = LowerBound(text);
    if (tool != tools_.end() && tool->name == text) return &*tool;
    if (tool == tools_.begin()) return nullptr;
    // The last name before `text`: a name that `text` begins with lies between the two or is it.
    --tool;
    if (text.starts_with(tool->name)) return &*tool;
    const auto [end, name_end] =
        std::mismatch(text.begin(), text.end(), tool->name.begin(), tool->name.end());
    text = text.substr(0, static_cast<size_t>(end - text.begin()));
  }
}

bool DeclaredTools::HasNameBeginningWith(std::string_view text) const {
  const auto tool = LowerBound(text);
  return tool != tools_.end() && tool->name.starts_with(text);
}

}  // namespace sheaf

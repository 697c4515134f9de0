#pragma once
// DeclaredTools: the tools of one request as the output parser needs them: their names, and the
// types of their arguments.
//
// Ownership  Pointers from Find live as long as the DeclaredTools.
// Threads    Immutable: shared by all choices of a request, any number of threads.
// Errors     Create: kInvalidArgument naming the tool (tools[2] "f"): no name, a name that an
//            earlier tool has, a schema that is not a JSON object.
// Cost       Create O(bytes of the schemas), then O(name * log tools) a lookup.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/output/parameter_types.h"

namespace sheaf {

struct ToolDeclaration {
  std::string name;
  std::string parameters_json;  // JSON Schema of the arguments object; empty: not given
};

struct DeclaredTool {
  std::string name;
  ParameterTypes parameters;
};

class DeclaredTools {
 public:
  static absl::StatusOr<DeclaredTools> Create(std::span<const ToolDeclaration> declarations);
  DeclaredTools() = default;

  const DeclaredTool* Find(std::string_view name) const;  // null: not declared
  // The tool with the longest name that `text` begins with; null: none.
  const DeclaredTool* FindLongestPrefixOf(std::string_view text) const;
  // Whether some name begins with `text` (or is it).
  bool HasNameBeginningWith(std::string_view text) const;

 private:
  std::vector<DeclaredTool>::const_iterator LowerBound(std::string_view name) const;

  std::vector<DeclaredTool> tools_;  // in order of name
};

}  // namespace sheaf

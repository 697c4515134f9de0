// The schemas of tools come from clients: any bytes end as an error or as types, soon.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "router/text/output/declared_tools.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::string_view data(reinterpret_cast<const char*>(bytes), size);
  const std::vector<sheaf::ToolDeclaration> declarations = {{"f", std::string(data)}};
  const auto tools = sheaf::DeclaredTools::Create(declarations);
  if (!tools.ok()) {
    if (tools.status().code() != absl::StatusCode::kInvalidArgument) std::abort();
    return 0;
  }
  const sheaf::DeclaredTool* tool = tools->Find("f");
  if (tool == nullptr) std::abort();
  for (const auto& [name, types] : tool->parameters.declared) {
    if (types.empty() || tool->parameters.Of(name) != types) std::abort();
  }
  if (tool->parameters.others.empty()) std::abort();
  return 0;
}

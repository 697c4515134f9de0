// The schemas of tools come from clients: whatever they are, they end as an error or as types,
// soon. The bytes are a schema themselves, and choose one that is JSON.

#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "router/text/output/declared_tools.h"

namespace {

class SchemaWriter {
 public:
  explicit SchemaWriter(std::string_view choices) : choices_(choices) {}

  std::string Write() {
    return R"({"properties": {"p": )" + Schema(0) + R"(, "q": )" + Schema(0) +
           R"(}, "additionalProperties": )" + Schema(0) + R"(, "$defs": [)" + Schema(0) + ", " +
           Schema(0) + ", " + Schema(0) + "]}";
  }

 private:
  size_t Choose(size_t bound) {
    if (choices_.empty()) return 0;
    const size_t choice = static_cast<uint8_t>(choices_.front()) % bound;
    choices_.remove_prefix(1);
    return choice;
  }

  std::string Schema(int depth) {
    constexpr const char* kLeaves[] = {"true",
                                       "false",
                                       "{}",
                                       "null",
                                       R"({"type": "string"})",
                                       R"({"type": ["integer", "null", "x"]})",
                                       R"({"type": "number", "nullable": true})",
                                       R"({"enum": [1, "a", null, [], {}, 1.5, true]})",
                                       R"({"const": {"a": 1}})",
                                       R"({"items": {}})",
                                       R"({"properties": {"p": {"type": "array"}}})",
                                       R"({"$ref": "#"})",
                                       R"({"$ref": "#/$defs/0"})",
                                       R"({"$ref": "#/$defs/1"})",
                                       R"({"$ref": "#/$defs/2"})",
                                       R"({"$ref": "#/properties/p"})",
                                       R"({"$ref": "#/%24defs/~0/~1"})"};
    constexpr const char* kLists[] = {"anyOf", "oneOf", "allOf"};
    if (depth > 5 || choices_.empty() || Choose(3) == 0) return kLeaves[Choose(std::size(kLeaves))];
    std::string schema = std::string("{\"") + kLists[Choose(std::size(kLists))] + "\": [";
    for (size_t n = 1 + Choose(4); n > 0; --n) {
      schema += Schema(depth + 1) + (n == 1 ? "]" : ", ");
    }
    if (Choose(4) == 0) schema += R"(, "nullable": true)";
    if (Choose(4) == 0) schema += R"(, "type": ["null", "object", "string"])";
    return schema + "}";
  }

  std::string_view choices_;
};

// Whether it is a schema.
bool Read(const std::string& schema) {
  const std::vector<sheaf::ToolDeclaration> declarations = {{"f", schema}};
  const auto tools = sheaf::DeclaredTools::Create(declarations);
  if (!tools.ok()) {
    if (tools.status().code() != absl::StatusCode::kInvalidArgument) std::abort();
    return false;
  }
  const sheaf::DeclaredTool* tool = tools->Find("f");
  if (tool == nullptr || tool->parameters.others.empty()) std::abort();
  for (const auto& [name, types] : tool->parameters.declared) {
    if (types.empty() || tool->parameters.Of(name) != types) std::abort();
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::string_view data(reinterpret_cast<const char*>(bytes), size);
  Read(std::string(data));
  if (!Read(SchemaWriter(data).Write())) std::abort();
  return 0;
}

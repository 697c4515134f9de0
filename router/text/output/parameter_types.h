#pragma once
// ParameterTypes: which JSON types each argument of a tool may have, read from the JSON Schema of
// its parameters.
//
// Read       `type` (a name or a list), `nullable`, `enum`, `const`, `anyOf`, `oneOf`, `allOf`, and
//            `$ref` to any place of the same schema. Where a schema names no type, `properties` and
//            `items` tell objects and arrays.
// Not read   Bounds, patterns, conditions, remote references: they are as if they were not there.
// Strings    What nothing is said about, and what no type fits, is a string: text is never lost.
// Errors     kInvalidArgument when the text is not a JSON object.
// Cost       O(bytes of the schema); one parameter looks at 256 schemas at most, so references that
//            fan out or go round end.

#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/output/json_types.h"

namespace sheaf {

struct ParameterTypes {
  std::map<std::string, JsonTypes, std::less<>> declared;
  JsonTypes others = JsonType::kString;  // of names that are not declared

  JsonTypes Of(std::string_view name) const;
};

// `schema_json` empty: no parameter is declared.
absl::StatusOr<ParameterTypes> ReadParameterTypes(std::string_view schema_json);

}  // namespace sheaf

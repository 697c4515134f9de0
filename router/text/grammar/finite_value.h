#pragma once
// Whether a schema can be satisfied in finitely many characters. {"$ref": "#"} alone cannot, nor
// can an object that requires a property of its own kind.
//
// Errors     kInvalidArgument "`where`$.path: no value is possible: ...".
// Cost       Linear in the schema for each level of recursion, at most 64.

#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "router/text/grammar/schema_types.h"

namespace sheaf {

// What the references of a schema point to, each with the path of one reference.
using ReferenceTargets = std::map<const SchemaJson*, std::string>;

absl::Status CheckFiniteValue(const SchemaJson& root, const ReferenceTargets& targets,
                              std::string_view where);

}  // namespace sheaf

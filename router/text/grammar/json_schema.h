#pragma once
// A client's JSON Schema, made ready for llguidance: checked first, so that what cannot be enforced
// is refused with its path and never ignored, then rewritten where llguidance reads a schema
// differently than it is meant.
//
// Taken      2020-12 (and what older drafts write the same way): the keywords of kKeywords in
//            json_schema_check.cc, annotations, references within the document.
// Given up   A free key (`additionalProperties`, `patternProperties`) may come twice in an object:
//            it is JSON all the same, and readers keep one of them. `minProperties` is refused
//            where that would break it.
// Threads    Pure functions.
// Errors     kInvalidArgument "`where`$.path: what is wrong".
// Cost       Linear in the schema but for `oneOf` (pairs of alternatives, at most 256). At most
//            1 MiB, 64 levels and 2,000 members an object.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "router/text/grammar/schema_types.h"

namespace sheaf {

// The bytes, levels and members are checked before anything is built.
absl::StatusOr<SchemaJson> ParseSchemaText(std::string_view text, std::string_view where);

// `schema` and all that it refers to can be enforced, and some finite value satisfies it.
absl::Status CheckSchema(const SchemaJson& schema, std::string_view where);

// Parsed, checked and rewritten: integers are within 64 bits, `oneOf` with alternatives that
// exclude each other is `anyOf`, annotations that only confuse are gone.
absl::StatusOr<SchemaJson> PrepareSchema(std::string_view text, std::string_view where);

// The schema as llguidance takes it. `schema` is prepared.
std::string SchemaForGrammar(SchemaJson schema, bool any_whitespace);

}  // namespace sheaf

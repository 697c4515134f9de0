#pragma once
// The value of a tool call's string argument as the models write it: raw, not as JSON.
//
// Reading    A reader of the call takes a raw value for the first declared type that it can be
//            read as: null, integer, number, boolean, object, array, string. So where a parameter
//            may be a string or something else, its strings here are those that cannot be read as
//            something else: they do not begin like a number, a list or an object, and are not
//            null, true or false. What is given up are strings like "3 apples" for a parameter that
//            may also be an integer.
// Errors     kInvalidArgument "`where`: ...": what cannot be said of a raw string.

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/grammar/lark_writer.h"
#include "router/text/grammar/schema_types.h"

namespace sheaf {

// A terminal's body for the strings that `schema` (a prepared part of `root`) allows.
absl::StatusOr<std::string> RawStringBody(const SchemaJson& root, const SchemaJson& schema,
                                          std::string_view where);

// A body that matches what does not read as one of `types` (without kStringType).
std::string NotReadAs(TypeSet types);

}  // namespace sheaf

#pragma once
// A bound on the text that a grammar can force in one piece.
//
// What is forced is walked through byte by byte when it begins, at about a kilobyte of states a
// byte, so a short schema that forces megabytes (an array of 10,000 equal texts) must be refused.
// Estimated: the longest text that a schema fixes (const, enum, a property's name), times all the
// counts of items that must be there.
//
// Threads: pure. Cost: linear. Errors: kInvalidArgument "`where`: ...".

#include <cstddef>
#include <string_view>

#include "absl/status/status.h"
#include "router/text/grammar/schema_types.h"

namespace sheaf {

inline constexpr size_t kMaxForcedBytes = 50'000;

absl::Status CheckForcedText(const SchemaJson& schema, std::string_view where);

}  // namespace sheaf

#pragma once
// JSON that is written piece by piece into a string, with the same bytes as JsonText
// (json_fields.h) of the same values: for what is said once a token, and for answers too large for
// a tree of values.
//
// Threads: pure. Cost: O(bytes appended), plain ASCII without allocations of its own.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/ids.h"

namespace sheaf {

void AppendQuoted(std::string_view text, std::string& out);
void AppendJsonInteger(int64_t value, std::string& out);
void AppendJsonNumber(double value, std::string& out);
// [1,2,3]
void AppendJsonIds(std::span<const TokenId> ids, std::string& out);

}  // namespace sheaf

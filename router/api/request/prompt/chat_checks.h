#pragma once
// The rules that a chat's options must keep, as far as they need no rendering: tools, tool choice,
// thoughts, continued messages, and what excludes what.
//
// Threads: pure functions. Cost: a JSON parse of each tool's schema.

#include <vector>

#include "router/api/request/api_error.h"
#include "router/api/request/request_validation.h"

namespace sheaf {

// Violations of `request.chat` (which is set), named as the HTTP API names fields.
void CheckChat(const ParsedRequest& request, const ValidationContext& context,
               std::vector<FieldViolation>& violations);

}  // namespace sheaf

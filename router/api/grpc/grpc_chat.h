#pragma once
// From sheaf.v1 chats to ChatInput, in the shapes that chat templates know (the OpenAI API's).
//
// Threads: pure functions. Cost: a JSON parse of each tool's parameters.

#include <vector>

#include "router/api/request/api_error.h"
#include "router/api/request/parsed_request.h"
#include "sheaf/v1/inference.pb.h"

namespace sheaf {

// Violations: what cannot be told to the template as it is, named as the HTTP API names fields.
// With more than `max_content_bytes` of content the messages stay out: they are refused for their
// length, whatever they are.
ChatInput ParseChat(const v1::ChatInput& chat, size_t max_content_bytes,
                    std::vector<FieldViolation>& violations);

}  // namespace sheaf

#pragma once
// What only chats have in their bodies: messages, tools, and how the model thinks.
//
// Threads: pure functions. Errors: violations are collected in `fields`.

#include "router/api/request/json/json_fields.h"
#include "router/api/request/parsed_request.h"

namespace sheaf {

// Everything of a chat that goes into its prompt or decides how its answer is read. Also what
// /tokenize takes beside `messages`.
void ReadChat(JsonFields& fields, ParsedRequest& request);

}  // namespace sheaf

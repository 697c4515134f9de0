#pragma once
// The one place where an error becomes an HTTP status and the OpenAI error object:
//   {"error": {"message": ..., "type": ..., "param": field or null, "code": HTTP status}}
//
// Threads: pure functions.

#include <string>

#include "router/api/http/http_message.h"
#include "router/api/request/api_error.h"

namespace sheaf {

// 400, 404, 413 are the client's; 503 with Retry-After when another attempt may succeed; 499 is for
// a client that left.
int HttpStatusOf(const absl::Status& status);

HttpResponse ErrorResponse(const ApiError& error);

// For what fails before an endpoint is reached (404 path, 405, 413, 431, ...).
HttpResponse ErrorResponse(int http_status, const std::string& message);

// The same object as one server-sent event, for a stream that has begun.
std::string ErrorEvent(const ApiError& error);

}  // namespace sheaf

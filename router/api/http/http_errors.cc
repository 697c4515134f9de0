#include "router/api/http/http_errors.h"

#include <algorithm>
#include <chrono>

#include "router/api/request/json/excerpt.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

// Of a message, whatever it quotes; violations have their own bounds.
constexpr size_t kMaxErrorBytes = 20 << 10;

const char* TypeOf(int http_status) {
  if (http_status == 404) return "not_found_error";
  if (http_status == 503 || http_status == 429) return "service_unavailable_error";
  if (http_status == 504) return "timeout_error";
  return http_status >= 500 ? "server_error" : "invalid_request_error";
}

Json ErrorObject(int http_status, const std::string& message, const Json& param) {
  return {{"error",
           {{"message", message},
            {"type", TypeOf(http_status)},
            {"param", param},
            {"code", http_status}}}};
}

Json ErrorObject(const ApiError& error) {
  const Json param =
      error.violations.empty() ? Json(nullptr) : Json(error.violations.front().field);
  return ErrorObject(HttpStatusOf(error.status),
                     Excerpt(std::string(error.status.message()), kMaxErrorBytes), param);
}

}  // namespace

int HttpStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
      return 400;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kCancelled:
      return 499;
    default:
      return 500;
  }
}

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response;
  response.status = HttpStatusOf(error.status);
  response.body = JsonText(ErrorObject(error));
  if (error.retry_after) {
    // Whole seconds, and never 0: a client that comes back at once meets the same queue.
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(*error.retry_after).count();
    response.headers.emplace_back("Retry-After", std::to_string(std::max<int64_t>(seconds, 1)));
  }
  return response;
}

HttpResponse ErrorResponse(int http_status, const std::string& message) {
  HttpResponse response;
  response.status = http_status;
  response.body = JsonText(ErrorObject(http_status, message, nullptr));
  return response;
}

std::string ErrorEvent(const ApiError& error) {
  return "data: " + JsonText(ErrorObject(error)) + "\n\n";
}

}  // namespace sheaf

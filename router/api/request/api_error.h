#pragma once
// ApiError: why a request is refused or failed, before a face turns it into its own words
// (http_errors.h, grpc_errors.h). ApiResult<T> is a value or such an error.

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"

namespace sheaf {

struct FieldViolation {
  std::string field;        // as the HTTP API names it: "top_p", "prompt[2]"
  std::string description;  // "must be in (0, 1], got 1.5"
  bool operator==(const FieldViolation&) const = default;
};

struct ApiError {
  absl::Status status;                     // never OK
  std::vector<FieldViolation> violations;  // for kInvalidArgument, where fields are to blame
  std::optional<Duration> retry_after;     // when another attempt may succeed
};

template <typename T>
using ApiResult = std::variant<T, ApiError>;

// kInvalidArgument, its message made of the violations (at least one).
inline ApiError InvalidFields(std::vector<FieldViolation> violations) {
  std::string message;
  for (const FieldViolation& violation : violations) {
    if (!message.empty()) message += "; ";
    message += violation.field + ": " + violation.description;
  }
  return {absl::InvalidArgumentError(message), std::move(violations), std::nullopt};
}

}  // namespace sheaf

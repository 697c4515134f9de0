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

// kInvalidArgument, its message made of the violations (at least one). Bounded, whatever the client
// sent: the first kMaxViolations of them, each shortened (excerpt.h).
inline constexpr size_t kMaxViolations = 16;
ApiError InvalidFields(std::vector<FieldViolation> violations);

}  // namespace sheaf

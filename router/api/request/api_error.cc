#include "router/api/request/api_error.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "router/api/request/json/excerpt.h"

namespace sheaf {

ApiError InvalidFields(std::vector<FieldViolation> violations) {
  const size_t all = violations.size();
  if (all > kMaxViolations) violations.resize(kMaxViolations);
  std::string message;
  for (FieldViolation& violation : violations) {
    violation.field = Excerpt(violation.field);
    violation.description = Excerpt(violation.description, kMaxMessageBytes);
    if (!message.empty()) message += "; ";
    message += violation.field + ": " + violation.description;
  }
  if (all > kMaxViolations) message += absl::StrFormat("; and %d more", all - kMaxViolations);
  return {absl::InvalidArgumentError(message), std::move(violations), std::nullopt};
}

}  // namespace sheaf

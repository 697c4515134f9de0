#include "router/api/request/prompt/text_bounds.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace sheaf {

size_t MaxTextBytes(const ParsedRequest& request, const ValidationContext& context) {
  const size_t per_token_at_most = context.limits.max_bytes_per_token;
  size_t per_token = context.codec.max_token_bytes().value_or(per_token_at_most);
  if (request.truncate_prompt_tokens) per_token = std::max(per_token, per_token_at_most);
  return static_cast<size_t>(context.max_model_len) * per_token;
}

std::optional<FieldViolation> CheckTextBytes(std::string field, size_t bytes,
                                             const ParsedRequest& request,
                                             const ValidationContext& context) {
  const size_t limit = MaxTextBytes(request, context);
  if (bytes <= limit) return std::nullopt;
  return FieldViolation{
      std::move(field),
      absl::StrFormat("This model's maximum context length is %d tokens; a text of %d bytes cannot "
                      "fit (at most %d).",
                      context.max_model_len, bytes, limit)};
}

EncodeBounds EncodeBoundsOf(const ParsedRequest& request, const ValidationContext& context) {
  EncodeBounds bounds;
  bounds.stop = context.client_left;
  if (!request.truncate_prompt_tokens) {
    bounds.max_tokens = static_cast<size_t>(context.max_model_len);
  }
  return bounds;
}

std::optional<ApiError> CheckClient(const ValidationContext& context) {
  if (!context.client_left || !context.client_left()) return std::nullopt;
  return ApiError{absl::CancelledError("the client has left"), {}, {}};
}

}  // namespace sheaf

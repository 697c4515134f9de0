#pragma once
// How long a text may be before it is tokenized: longer ones cannot fit the context, whatever their
// tokens are.
//
//   limit = context x the most bytes that a token of this vocabulary stands for
// (where that is not bounded: x RequestLimits::max_bytes_per_token). With truncate_prompt_tokens
// only the end of a text must fit, so its length is bounded by RequestLimits::max_bytes_per_token
// alone, which is the larger one for most vocabularies.
// Threads: pure. Cost: O(1).

#include <cstddef>
#include <optional>
#include <string>

#include "router/api/request/api_error.h"
#include "router/api/request/parsed_request.h"
#include "router/api/request/request_validation.h"

namespace sheaf {

size_t MaxTextBytes(const ParsedRequest& request, const ValidationContext& context);

// What is wrong with a text of so many bytes in `field`; nothing: it may fit.
std::optional<FieldViolation> CheckTextBytes(std::string field, size_t bytes,
                                             const ParsedRequest& request,
                                             const ValidationContext& context);

// Tokens that a prompt may have before it is given up, and when nobody waits for it any more.
EncodeBounds EncodeBoundsOf(const ParsedRequest& request, const ValidationContext& context);

// kCancelled where the client has left.
std::optional<ApiError> CheckClient(const ValidationContext& context);

}  // namespace sheaf

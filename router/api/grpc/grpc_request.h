#pragma once
// From sheaf.v1 request messages to ParsedRequest.
//
// Threads    pure functions. Cost: O(bytes), and a JSON parse of each tool's parameters.
// Errors     kInvalidArgument with violations, for what has no place in a ParsedRequest. All else
//            is for the validation to judge. Values of enums that are not known count as
//            unspecified.

#include <cstddef>
#include <cstdint>

#include "router/api/request/api_error.h"
#include "router/api/request/parsed_request.h"
#include "sheaf/v1/inference.pb.h"

namespace sheaf {

// max_content_bytes: grpc_chat.h.
ApiResult<ParsedRequest> ParseGenerateRequest(const v1::GenerateRequest& message,
                                              size_t max_content_bytes = SIZE_MAX);
ApiResult<ParsedRequest> ParseTokenizeRequest(const v1::TokenizeRequest& message,
                                              size_t max_content_bytes = SIZE_MAX);

}  // namespace sheaf

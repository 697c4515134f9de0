#pragma once
// From sheaf.v1 request messages to ParsedRequest.
//
// Threads    pure functions. Cost: O(bytes), and a JSON parse of each tool's parameters.
// Errors     kInvalidArgument with violations, for what has no place in a ParsedRequest. All else
//            is for the validation to judge. Values of enums that are not known count as
//            unspecified.

#include "router/api/request/api_error.h"
#include "router/api/request/parsed_request.h"
#include "sheaf/v1/inference.pb.h"

namespace sheaf {

ApiResult<ParsedRequest> ParseGenerateRequest(const v1::GenerateRequest& message);
ApiResult<ParsedRequest> ParseTokenizeRequest(const v1::TokenizeRequest& message);

}  // namespace sheaf

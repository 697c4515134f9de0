#pragma once
// StartRequest: the one way from a parsed request to running choices, the same for both faces.
//
// Order: readiness (before any work), model name and fields, chat template and tokens, submission.
// A client that has left is noticed between the stages and within a long tokenizing: kCancelled.
// Threads: any; tokenizing takes its time, so call it on the PreparationPool, in the lane that
// PreparationLaneOf names. Refusals are counted in the metrics.

#include <memory>

#include "router/api/generation/api_context.h"
#include "router/api/generation/generation_call.h"
#include "router/api/request/api_error.h"
#include "router/api/request/parsed_request.h"
#include "router/api/request/request_validation.h"

namespace sheaf {

struct StartedRequest {
  // Without `choices`, which the engine has, and without the prompts' texts unless they are echoed.
  PreparedRequest prepared;
  std::shared_ptr<GenerationCall> call;
};

// kUnavailable, with a retry hint, while the engine takes no requests: before its workers have come
// for the first time, and when it stops.
std::optional<ApiError> CheckReady(const ApiContext& context);

PreparationLane PreparationLaneOf(const ParsedRequest& request);

ApiResult<StartedRequest> StartRequest(const ParsedRequest& request, RequestFace face,
                                       TimePoint arrival, const ApiContext& context,
                                       const ClientLeft& client_left);

}  // namespace sheaf

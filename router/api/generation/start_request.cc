#include "router/api/generation/start_request.h"

#include <utility>

#include "router/api/request/answer_plan.h"

namespace sheaf {
namespace {

ApiResult<PreparedRequest> Prepare(const ParsedRequest& request, const ApiContext& context) {
  // A wrong model name stays wrong: say so before asking for another attempt.
  if (auto error = CheckModelName(request.model, context.model)) return *std::move(error);
  if (auto error = CheckReady(context)) return *std::move(error);
  return PrepareRequest(request, context.validation());
}

}  // namespace

std::optional<ApiError> CheckReady(const ApiContext& context) {
  if (context.engine.ready()) return std::nullopt;
  return ApiError{
      absl::UnavailableError("the server is not ready: it waits for expert workers or shuts down"),
      {},
      context.engine.RetryAfter()};
}

PreparationLane PreparationLaneOf(const ParsedRequest& request) {
  return NeedsGrammar(request) ? PreparationLane::kGuided : PreparationLane::kOrdinary;
}

ApiResult<StartedRequest> StartRequest(const ParsedRequest& request, RequestFace face,
                                       TimePoint arrival, const ApiContext& context) {
  auto prepared = Prepare(request, context);
  if (auto* error = std::get_if<ApiError>(&prepared)) {
    context.metrics.RequestEnded(face, OutcomeOf(error->status), context.clock.Now() - arrival);
    return std::move(*error);
  }
  StartedRequest started{std::get<PreparedRequest>(std::move(prepared)), nullptr};
  // From here on the call counts itself.
  auto call = GenerationCall::Start(context.services(), face, arrival,
                                    std::exchange(started.prepared.choices, {}));
  if (auto* error = std::get_if<ApiError>(&call)) return std::move(*error);
  started.call = std::get<std::shared_ptr<GenerationCall>>(std::move(call));
  return started;
}

}  // namespace sheaf

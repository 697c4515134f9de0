#include "router/api/generation/start_request.h"

#include <atomic>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "router/api/request/answer_plan.h"
#include "spdlog/spdlog.h"

namespace sheaf {
namespace {

ApiResult<PreparedRequest> Prepare(const ParsedRequest& request, const ApiContext& context,
                                   const ClientLeft& client_left) {
  // A wrong model name stays wrong: say so before asking for another attempt.
  if (auto error = CheckModelName(request.model, context.model)) return *std::move(error);
  if (auto error = CheckReady(context)) return *std::move(error);
  if (client_left && client_left()) {
    return ApiError{absl::CancelledError("the client has left"), {}, {}};
  }
  return PrepareRequest(request, context.validation(client_left));
}

// Too many log-probabilities of prompts to keep while the client reads them.
std::optional<ApiError> CheckPromptLogprobs(const PreparedRequest& prepared,
                                            const ApiContext& context) {
  size_t bytes = 0;
  for (const GenerationRequest& choice : prepared.choices) {
    if (!choice.prompt_logprobs) continue;
    const int top =
        *choice.prompt_logprobs < 0 ? context.model.config.vocab_size : *choice.prompt_logprobs;
    bytes += choice.prompt.size() *
             (sizeof(TokenLogprobs) + static_cast<size_t>(top) * sizeof(TokenLogprob));
  }
  if (bytes <= context.limits.max_prompt_logprob_bytes) return std::nullopt;
  return InvalidFields(
      {{"prompt_logprobs",
        absl::StrFormat("at most %d bytes of log-probabilities for all prompts and choices "
                        "together, these have %d: ask for fewer a token, or for fewer tokens",
                        context.limits.max_prompt_logprob_bytes, bytes)}});
}

void NoteDoubledPrefixes(const PreparedRequest& prepared, const ApiContext& context) {
  if (prepared.doubled_prefixes == 0) return;
  context.metrics.DoubledPrefixes(prepared.doubled_prefixes);
  static std::atomic<bool> said{false};
  if (said.exchange(true)) return;
  spdlog::warn(
      "request {}: the prompt begins twice with the tokens that prompts begin with; send the text "
      "without them or \"add_special_tokens\": false (said once; the metric counts them all)",
      prepared.request_id);
}

}  // namespace

std::optional<ApiError> CheckReady(const ApiContext& context) {
  if (context.engine.accepting()) return std::nullopt;
  return ApiError{
      absl::UnavailableError("the server is not ready: experts are missing, or attention ranks, or "
                             "it is stopping"),
      {},
      context.engine.RetryAfter()};
}

PreparationLane PreparationLaneOf(const ParsedRequest& request) {
  return NeedsGrammar(request) ? PreparationLane::kGuided : PreparationLane::kOrdinary;
}

ApiResult<StartedRequest> StartRequest(const ParsedRequest& request, RequestFace face,
                                       TimePoint arrival, const ApiContext& context,
                                       const ClientLeft& client_left) {
  auto prepared = Prepare(request, context, client_left);
  if (const auto* good = std::get_if<PreparedRequest>(&prepared)) {
    if (auto error = CheckPromptLogprobs(*good, context)) prepared = *std::move(error);
  }
  if (auto* error = std::get_if<ApiError>(&prepared)) {
    context.Refused(face, OutcomeOf(error->status), request.request_id.value_or(""),
                    request.fairness_key, arrival, request.trace);
    return std::move(*error);
  }
  NoteDoubledPrefixes(std::get<PreparedRequest>(prepared), context);
  StartedRequest started{std::get<PreparedRequest>(std::move(prepared)), nullptr};
  // Only an echo has a use for it from here on.
  if (!request.echo) {
    for (PreparedPrompt& prompt : started.prepared.prompts) prompt.text = std::string();
  }
  // From here on the call counts itself.
  auto call = GenerationCall::Start(context.services(), face, arrival,
                                    std::exchange(started.prepared.choices, {}),
                                    {.id = started.prepared.request_id,
                                     .response_id = request.response_id,
                                     .chat = request.chat.has_value(),
                                     .trace = request.trace});
  if (auto* error = std::get_if<ApiError>(&call)) return std::move(*error);
  started.call = std::get<std::shared_ptr<GenerationCall>>(std::move(call));
  return started;
}

}  // namespace sheaf

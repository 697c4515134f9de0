#pragma once
// ApiContext: everything the two faces share, made once by the process and passed in. All of it
// outlives the servers, which end their calls while engine, pool and wake queue still run.

#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "base/byte_budget.h"
#include "base/clock.h"
#include "router/api/generation/generation_call.h"
#include "router/api/generation/preparation_pool.h"
#include "router/api/generation/wake_queue.h"
#include "router/api/request/api_settings.h"
#include "router/api/request/limits.h"
#include "router/api/request/prompt/text_codec.h"
#include "router/api/request/request_validation.h"
#include "router/api/request/served_model.h"
#include "router/metrics/router_metrics.h"
#include "router/schedule/generation.h"

namespace sheaf {

struct ApiContext {
  GenerationEngine& engine;
  const TextCodec& codec;
  const ServedModel& model;
  const RequestLimits& limits;
  const ApiSettings& settings;
  RouterMetrics& metrics;
  PreparationPool& preparation;
  WakeQueue& wakes;
  const Clock& clock;
  std::function<uint64_t()> random;       // thread-safe; seeds and request names
  std::function<int64_t()> unix_seconds;  // `created` in answers
  // Of gRPC requests (HTTP's are the server's own: HttpServerParts); null: no bound.
  ByteBudget* request_bytes = nullptr;
  RequestLog* request_log = nullptr;  // null: none is kept

  ValidationContext validation(ClientLeft client_left = {}) const {
    return {model, limits,  settings,
            codec, engine.max_model_len(), random, std::move(client_left)};
  }
  GenerationCall::Services services() const {
    return {engine, wakes, metrics, clock, limits.max_unsent_bytes, request_log};
  }
  // Counts a request that ended before there was a call.
  void Refused(RequestFace face, RequestOutcome outcome, std::string_view id,
               std::string_view fairness_key, TimePoint arrival,
               const std::optional<TraceContext>& trace) const {
    const Duration total = clock.Now() - arrival;
    metrics.RequestEnded(face, outcome, total);
    if (request_log == nullptr) return;
    request_log->Ended({.face = face,
                        .outcome = outcome,
                        .id = id,
                        .fairness_key = fairness_key,
                        .total = total,
                        .trace = trace ? &*trace : nullptr});
  }
};

}  // namespace sheaf

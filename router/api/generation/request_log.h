#pragma once
// RequestLog: one line about every generation request at its end, however it ended. Never a word of
// prompt or answer: sizes only.
//
// Who calls  whoever counts the request in RouterMetrics, at the same moment and once.
// Threads    any, several at a time; under the call's lock, so Ended must not wait for anything.
// Cost       of an implementation: about a microsecond.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "router/metrics/router_metrics.h"
#include "router/schedule/generation.h"
#include "tracing/trace_context.h"

namespace sheaf {

// What was asked of every choice.
struct AskedGeneration {
  int32_t max_tokens = 0;
  float temperature = 1;
  float top_p = 1;
  int32_t top_k = 0;
};

// Of a request that was refused before its tokens were known, the numbers are 0.
struct EndedRequest {
  RequestFace face = RequestFace::kHttp;
  RequestOutcome outcome = RequestOutcome::kStop;
  std::string_view id{};          // empty: refused before it was read
  std::string_view fairness_key{};  // as FairnessKeyOf; empty: none
  int choices = 0;
  int64_t prompt_tokens = 0;  // each prompt once, whatever its number of choices
  int64_t cached_tokens = 0;  // of those, found in the prefix cache; of choices that have ended
  int64_t output_tokens = 0;  // told, of all choices; a prior output is not among them
  int64_t text_bytes = 0;     // of those tokens' text, before it is wrapped for its face
  Duration queued{0};  // submit to first admission, the longest of the choices that it is known of
  std::optional<Duration> first_token{};  // arrival to the first one; nullopt: there was none
  Duration total{0};                      // arrival to end

  bool chat = false;
  std::string_view response_id{};  // of the answer; empty: `id`
  std::optional<AskedGeneration> asked{};      // nullopt: refused before it was known
  std::optional<Duration> submitted{};         // arrival to submit; nullopt: it was not
  std::span<const FinishReason> finish_reasons{};  // of choices that have ended, in their order
  const TraceContext* trace = nullptr;         // that it belongs to; null: none is known
};

class RequestLog {
 public:
  virtual ~RequestLog() = default;
  virtual void Ended(const EndedRequest& request) = 0;
};

}  // namespace sheaf

#pragma once
// RequestSpans: a request that has ended, as spans: the request itself, and where its time went.
//
//   chat MODEL                    arrival to end (SERVER; the child of the client's span)
//     prepare                     arrival to submit: reading, chat template, tokens, grammar
//     queue                       submit to first admission
//     prefill                     admission to the first token
//       dispatch worker N         what an expert worker was asked in the steps of that time
//     decode                      first token to end
//       dispatch worker N
//
// Of several choices the first token of any, and the longest wait, count. Phases that did not begin
// are left out. Names and attributes: docs/tracing.md. Never a text of prompt or answer.
//
// Threads  pure; random ids and times come in. Cost: about 10 us, and DispatchHistory::Sum twice.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "router/api/generation/request_log.h"
#include "tracing/dispatch_history.h"
#include "tracing/span.h"

namespace sheaf {

struct RequestSpansParts {
  std::string model;
  const DispatchHistory* dispatches = nullptr;  // null: no experts in workers
  TimePoint ended;                              // the moments of the request's end, by both clocks
  int64_t ended_unix_nanos = 0;
  TraceId trace_id{};   // the request's own trace, where nobody has begun one
  uint8_t trace_flags = 0;
  std::function<uint64_t()> random;
};

// The request's own span first. At most 6 + 2 * kMostWorkers.
std::vector<Span> RequestSpans(const EndedRequest& request, const RequestSpansParts& parts);

// Of each phase; beyond, those that took longest.
inline constexpr size_t kMostWorkers = 64;

}  // namespace sheaf

#pragma once
// RequestTracer: the request log that makes spans of the requests whose trace is kept, and then
// tells the next log, with the trace that they belong to.
//
// Nothing of it happens before a request's end.
//
// Threads    as RequestLog. Ownership  borrows all of its parts.
// Cost       of a kept request: tens of microseconds; of another one two random numbers.

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "base/clock.h"
#include "router/api/generation/request_log.h"
#include "tracing/dispatch_history.h"
#include "tracing/span_exporter.h"
#include "tracing/trace_sampler.h"

namespace sheaf {

class RequestTracer final : public RequestLog {
 public:
  struct Parts {
    RequestLog& next;
    SpanExporter& exporter;
    const DispatchHistory& dispatches;
    const Clock& clock;
    std::function<int64_t()> unix_nanos;
    std::function<uint64_t()> random;  // thread-safe
    std::string model;
  };

  RequestTracer(double sample_ratio, Parts parts)
      : sampler_(sample_ratio), parts_(std::move(parts)) {}

  void Ended(const EndedRequest& request) override;

 private:
  const TraceSampler sampler_;
  const Parts parts_;
};

}  // namespace sheaf

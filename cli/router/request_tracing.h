#pragma once
// RequestTracing: a router's traces, put together: counters, and where there is a collector the
// history of dispatches, the exporter and the tracer.
//
// Threads    log(), dispatches(): any; Stop: the owner's.
// Ownership  borrows registry, clock and `next`.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "cli/options/trace_options.h"
#include "cli/router/request_tracer.h"
#include "prometheus/registry.h"
#include "router/api/generation/request_log.h"
#include "tracing/dispatch_history.h"
#include "tracing/span_counters.h"
#include "tracing/span_exporter.h"

namespace sheaf {

class RequestTracing {
 public:
  struct Parts {
    const TraceSettings& settings;
    prometheus::Registry& registry;
    const Clock& clock;
    std::function<uint64_t()> random;  // thread-safe
    std::string model;
    RequestLog& next;
  };

  explicit RequestTracing(const Parts& parts);

  // What requests are told to.
  RequestLog* log() { return tracer_ ? static_cast<RequestLog*>(tracer_.get()) : &next_; }
  DispatchHistory* dispatches() { return dispatches_.get(); }  // null: no traces
  // Sends what waits.
  void Stop(Duration patience);

 private:
  RequestLog& next_;
  SpanCounters counters_;
  std::unique_ptr<DispatchHistory> dispatches_;
  std::unique_ptr<SpanExporter> exporter_;
  std::unique_ptr<RequestTracer> tracer_;
};

}  // namespace sheaf

#include "cli/router/request_tracer.h"

#include <optional>
#include <utility>

#include "cli/router/request_spans.h"

namespace sheaf {
namespace {

TraceContext NewTrace(const std::function<uint64_t()>& random) {
  TraceContext context;
  context.flags = TraceContext::kSampled | TraceContext::kRandom;
  while (context.trace_id == TraceId{}) {
    const uint64_t halves[] = {random(), random()};
    for (size_t i = 0; i < context.trace_id.size(); ++i) {
      context.trace_id[i] = static_cast<uint8_t>(halves[i / 8] >> (8 * (i % 8)));
    }
  }
  return context;
}

}  // namespace

void RequestTracer::Ended(const EndedRequest& request) {
  std::optional<TraceContext> own;
  if (request.trace == nullptr) own = NewTrace(parts_.random);
  const TraceContext& trace = own ? *own : *request.trace;
  if (!sampler_.Keeps(request.trace, trace.trace_id)) return parts_.next.Ended(request);
  parts_.exporter.Add(RequestSpans(request, {.model = parts_.model,
                                             .dispatches = &parts_.dispatches,
                                             .ended = parts_.clock.Now(),
                                             .ended_unix_nanos = parts_.unix_nanos(),
                                             .trace_id = trace.trace_id,
                                             .trace_flags = trace.flags,
                                             .random = parts_.random}));
  EndedRequest told = request;
  told.trace = &trace;
  parts_.next.Ended(told);
}

}  // namespace sheaf

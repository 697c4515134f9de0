#include "tracing/span_counters.h"

#include "prometheus/family.h"

namespace sheaf {

const char* NameOf(SpanDrop cause) {
  switch (cause) {
    case SpanDrop::kQueueFull:
      return "queue_full";
    case SpanDrop::kUnreachable:
      return "unreachable";
    case SpanDrop::kRefused:
      return "refused";
    case SpanDrop::kShutdown:
      return "shutdown";
  }
  return "";
}

SpanCounters::SpanCounters(prometheus::Registry& registry)
    : exported_(prometheus::BuildCounter()
                    .Name("sheaf_trace_spans_exported_total")
                    .Help("Spans that the collector has taken.")
                    .Register(registry)
                    .Add({})),
      dropped_(prometheus::BuildCounter()
                   .Name("sheaf_trace_spans_dropped_total")
                   .Help("Spans that were not sent, by cause.")
                   .Register(registry)),
      failed_sends_(prometheus::BuildCounter()
                        .Name("sheaf_trace_failed_sends_total")
                        .Help("Tries to send a batch of spans that the collector did not take.")
                        .Register(registry)
                        .Add({})),
      queued_(prometheus::BuildGauge()
                  .Name("sheaf_trace_spans_queued")
                  .Help("Spans that wait to be sent or are being sent.")
                  .Register(registry)
                  .Add({})) {
  for (const SpanDrop cause : {SpanDrop::kQueueFull, SpanDrop::kUnreachable, SpanDrop::kRefused,
                               SpanDrop::kShutdown}) {
    dropped_.Add({{"cause", NameOf(cause)}});
  }
}

void SpanCounters::Exported(int64_t spans) { exported_.Increment(static_cast<double>(spans)); }

void SpanCounters::Dropped(SpanDrop cause, int64_t spans) {
  dropped_.Add({{"cause", NameOf(cause)}}).Increment(static_cast<double>(spans));
}

void SpanCounters::SendFailed() { failed_sends_.Increment(); }

void SpanCounters::QueueIs(int64_t spans) { queued_.Set(static_cast<double>(spans)); }

}  // namespace sheaf

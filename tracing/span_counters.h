#pragma once
// SpanCounters: what became of a process's spans (docs/metrics.md, "Traces").
//
// Threads  any; lock-free. Ownership  the registry outlives this.

#include <cstdint>

#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"

namespace sheaf {

// Why a span was not sent.
enum class SpanDrop {
  kQueueFull,    // the collector did not keep up
  kUnreachable,  // a batch was tried for long enough
  kRefused,      // by the collector
  kShutdown,     // the process ended first
};

const char* NameOf(SpanDrop cause);  // as the label has it

class SpanCounters {
 public:
  explicit SpanCounters(prometheus::Registry& registry);
  SpanCounters(const SpanCounters&) = delete;
  SpanCounters& operator=(const SpanCounters&) = delete;

  void Exported(int64_t spans);
  void Dropped(SpanDrop cause, int64_t spans);
  void SendFailed();
  void QueueIs(int64_t spans);

 private:
  prometheus::Counter& exported_;
  prometheus::Family<prometheus::Counter>& dropped_;
  prometheus::Counter& failed_sends_;
  prometheus::Gauge& queued_;
};

}  // namespace sheaf

#pragma once
// QueueMetrics: the figures of the queue in front of the engine, as verbs (docs/metrics.md); of one
// RouterMetrics' registry.
//
// Who calls   the engine's observer, on the step thread.
// Threads     any; lock-free. Ownership   the registry outlives this.

#include <cstdint>

#include "base/clock.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace sheaf {

class QueueMetrics {
 public:
  explicit QueueMetrics(prometheus::Registry& registry);
  QueueMetrics(const QueueMetrics&) = delete;
  QueueMetrics& operator=(const QueueMetrics&) = delete;

  void QueuedTokensAre(int64_t tokens);
  // A choice left the queue for the first time.
  void Admitted(Duration since_submit);
  enum class Refusal { kFull, kNeverFits, kTooLate };
  void Refused(Refusal cause, int64_t requests);
  void Displaced(int64_t sequences);

 private:
  prometheus::Gauge& queued_tokens_;
  prometheus::Histogram& queue_seconds_;
  prometheus::Counter* refused_[3];
  prometheus::Counter& displacements_;
};

}  // namespace sheaf

#pragma once
// CoordinatorMetrics: every figure of a pool that its coordinator exposes, as verbs.
// docs/metrics.md lists the names.
//
// Threads    any. Ownership: the registry outlives this.

#include <cstddef>
#include <map>
#include <string>

#include "base/clock.h"
#include "coordinator/pool_state.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace sheaf {

class CoordinatorMetrics {
 public:
  explicit CoordinatorMetrics(prometheus::Registry& registry);
  CoordinatorMetrics(const CoordinatorMetrics&) = delete;
  CoordinatorMetrics& operator=(const CoordinatorMetrics&) = delete;

  // A control message.
  void Received(size_t bytes);
  void Sent(size_t bytes);
  // A tick that planned.
  void Planned(Duration took);
  // After each tick; counters only grow.
  void PoolIs(const PoolFigures& figures, const PoolCounters& counters);

 private:
  prometheus::Counter& received_messages_;
  prometheus::Counter& sent_messages_;
  prometheus::Counter& received_bytes_;
  prometheus::Counter& sent_bytes_;
  prometheus::Histogram& plan_seconds_;
  std::map<v1::WorkerStatus::State, prometheus::Gauge*> workers_;
  std::map<LossCause, prometheus::Counter*> lost_;
  prometheus::Gauge* coverage_[4];
  std::map<int, prometheus::Gauge*> fewest_holders_;  // by layer
  prometheus::Gauge& wanted_holders_;
  prometheus::Family<prometheus::Gauge>& layer_holders_;
  prometheus::Gauge& routers_;
  prometheus::Gauge& moving_bytes_;
  prometheus::Counter& moves_;
  prometheus::Counter& moved_bytes_;
  prometheus::Counter& quarantines_;
  prometheus::Counter& wrong_answers_;
  prometheus::Counter& false_evictions_;
  prometheus::Counter& refused_hellos_;
  prometheus::Counter& refused_experts_;
};

}  // namespace sheaf

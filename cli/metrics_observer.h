#pragma once
// MetricsObserver: the engine's reports become the router's figures. Requests, time to first token
// and token gaps are counted by the API, which knows the client's view; here is what only the step
// loop knows.
//
// Threads: the engine's step thread. Ownership: borrows the metrics.

#include "router/metrics/router_metrics.h"
#include "router/schedule/engine_observer.h"

namespace sheaf {

class MetricsObserver final : public EngineObserver {
 public:
  explicit MetricsObserver(RouterMetrics& metrics) : metrics_(metrics) {}

  void OnLoad(const EngineLoad& load) override {
    metrics_.QueueIs(load.queued, load.running);
    metrics_.KvBlocksAre(load.used_blocks, load.total_blocks);
  }
  void OnStep(const StepReport& report) override {
    metrics_.StepDone(report.prefill_tokens, report.sampled_tokens, report.duration);
    for (int i = 0; i < report.preempted; ++i) metrics_.Preempted();
  }

 private:
  RouterMetrics& metrics_;
};

}  // namespace sheaf

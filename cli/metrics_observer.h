#pragma once
// MetricsObserver: the engine's reports become the router's figures. Requests, time to first token
// and token gaps are counted by the API, which knows the client's view; here is what only the step
// loop knows.
//
// Threads: the engine's (engine_observer.h). Ownership: borrows the metrics.

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
    metrics_.StepDone({.prompt = report.prefill_tokens, .decode = report.decode_tokens},
                      report.duration);
    metrics_.SchedulingTook(report.scheduling_cpu);
    for (int i = 0; i < report.preempted; ++i) metrics_.Preempted();
  }
  void OnTold(const ToldTokens& told) override { metrics_.TokensTold(told.tokens, told.forced); }
  void OnRequestEnd(const RequestReport& report) override {
    if (report.guided) metrics_.GuidedEnded(report.guide_error);
  }

 private:
  RouterMetrics& metrics_;
};

}  // namespace sheaf

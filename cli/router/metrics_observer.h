#pragma once
// MetricsObserver: the engine's reports become the router's figures. Requests, time to first token
// and token gaps are counted by the API, which knows the client's view; here is what only the step
// loop knows.
//
// Threads: the engine's (engine_observer.h). Ownership: borrows the metrics.

#include <spdlog/spdlog.h>

#include <string>

#include "router/metrics/queue_metrics.h"
#include "router/metrics/rank_metrics.h"
#include "router/metrics/router_metrics.h"
#include "router/metrics/sequence_metrics.h"
#include "router/metrics/speculation_metrics.h"
#include "router/ranks/rank_hub.h"
#include "router/schedule/engine_observer.h"

namespace sheaf {

class MetricsObserver final : public EngineObserver {
 public:
  MetricsObserver(RouterMetrics& metrics, QueueMetrics& queue, SpeculationMetrics& speculation,
                  SequenceMetrics& sequences, RankMetrics& ranks)
      : metrics_(metrics),
        queue_(queue),
        speculation_(speculation),
        sequences_(sequences),
        rank_metrics_(ranks) {}

  // Before the first step: whose gathers are counted. It outlives the last one.
  void WatchRanks(HubRanks& ranks) { ranks_ = &ranks; }

  void OnLoad(const EngineLoad& load) override {
    metrics_.QueueIs(load.queued, load.running);
    metrics_.KvBlocksAre(load.used_blocks, load.total_blocks);
    metrics_.PrefixBlocksAre(load.cached_blocks);
  }
  void OnQueue(const QueueReport& queue) override {
    using Refusal = QueueMetrics::Refusal;
    queue_.QueuedTokensAre(queue.tokens);
    queue_.Refused(Refusal::kFull, queue.refused.full - refused_.full);
    queue_.Refused(Refusal::kNeverFits, queue.refused.never_fits - refused_.never_fits);
    queue_.Refused(Refusal::kTooLate, queue.refused.too_late - refused_.too_late);
    refused_ = queue.refused;
  }
  void OnCacheLost(int sequences, int64_t tokens) override {
    rank_metrics_.ComputedAgain(sequences, tokens);
  }
  void OnAdmitted(Duration since_submit) override { queue_.Admitted(since_submit); }
  void OnStep(const StepReport& report) override {
    metrics_.StepDone({.prompt = report.prefill_tokens, .decode = report.decode_tokens},
                      report.duration);
    speculation_.Verified(report.drafts, report.drafted_tokens, report.accepted_at);
    if (!report.given_up && report.status.ok()) {
      metrics_.StepWasPlanned(report.predicted, report.target, report.duration);
    }
    metrics_.SchedulingTook(report.scheduling_cpu);
    for (int i = 0; i < report.preempted; ++i) metrics_.Preempted();
    queue_.Displaced(report.displaced);
    metrics_.PrefixBlocksEvicted(report.evicted_blocks);
    if (ranks_ != nullptr) CountGathers(report);
  }
  void OnSecondTier(const SecondTierReport& report) override {
    metrics_.BlocksOffloaded(
        {report.held, report.kept, report.lost, report.loaded, report.failed});
    // The first, then every thousandth: a bad disk fails often.
    if (report.failed > 0 && offload_failures_ % 1000 == 0) {
      spdlog::warn("{}; the block is computed again instead", std::string(report.remark.message()));
    }
    offload_failures_ += report.failed > 0;
  }
  void OnPrefixLookup(int tokens, int cached_tokens) override {
    metrics_.PrefixLookedUp(tokens, cached_tokens);
  }
  void OnTold(const ToldTokens& told) override { metrics_.TokensTold(told.tokens, told.forced); }
  void OnRequestEnd(const RequestReport& report) override {
    if (report.guided) metrics_.GuidedEnded(report.guide_error);
    sequences_.Ended({.prompt_tokens = report.prompt_tokens,
                      .generated_tokens = report.completion_tokens - report.prior_tokens,
                      .queued = report.queued,
                      .first_token = report.first_token,
                      .total = report.total});
  }

 private:
  void CountGathers(const StepReport& report) {
    const GatherFigures figures = ranks_->TakeFigures();
    rank_metrics_.StepGathered(
        {figures.gathers, figures.sent_bytes, figures.received_bytes, figures.waited});
    if (figures.lost_rank && report.give_up_cause == GiveUpCause::kUnavailable) {
      rank_metrics_.StepGivenUp();
    }
  }

  RouterMetrics& metrics_;
  QueueMetrics& queue_;
  SpeculationMetrics& speculation_;
  SequenceMetrics& sequences_;
  RankMetrics& rank_metrics_;
  HubRanks* ranks_ = nullptr;  // null: a single rank
  QueueRefusals refused_;  // counted so far
  int64_t offload_failures_ = 0;
};

}  // namespace sheaf

#include "router/metrics/pool_metrics.h"

#include <chrono>
#include <vector>

#include "prometheus/family.h"

namespace sheaf {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// An exchange over shared memory needs microseconds, a prefill over a network seconds.
Buckets ExchangeBuckets() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
          0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10};
}

prometheus::Family<prometheus::Counter>& Counters(prometheus::Registry& registry, const char* name,
                                                  const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

prometheus::Gauge& Gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Histogram& Histogram(prometheus::Registry& registry, const char* name,
                                 const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(
      {}, ExchangeBuckets());
}

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

constexpr const char* kLinkEnds[] = {"closed", "silent", "nonsense", "forged", "refused",
                                         "other"};
constexpr const char* kHolders[] = {"0", "1", "2", "3+"};
constexpr const char* kAskedAgain[] = {"link_lost", "not_held", "late", "error"};

}  // namespace

PoolMetrics::PoolMetrics(prometheus::Registry& registry)
    : step_dispatch_(
          Histogram(registry, "sheaf_step_dispatch_seconds",
                    "Sending token vectors to the workers, summed over a step's layers.")),
      step_combine_(
          Histogram(registry, "sheaf_step_combine_seconds",
                    "Waiting for and adding the workers' answers, summed over a step's layers.")),
      imbalance_(
          Gauge(registry, "sheaf_expert_imbalance_ratio",
                "Most (token, expert) pairs on one worker / mean over live workers, last step.")),
      live_links_(Gauge(registry, "sheaf_live_workers", "Expert workers with a live link.")),
      late_answers_(Counters(registry, "sheaf_late_answers_total",
                             "Answers that came when another worker's had been taken.")
                        .Add({})),
      steps_given_up_(Counters(registry, "sheaf_steps_given_up_total",
                               "Steps computed again because nobody answered for an expert.")
                          .Add({})),
      sent_bytes_(
          Counters(registry, "sheaf_exchange_sent_bytes_total", "Bytes sent to an expert worker.")),
      received_bytes_(Counters(registry, "sheaf_exchange_received_bytes_total",
                               "Bytes received from an expert worker.")),
      expert_tokens_(Counters(registry, "sheaf_expert_tokens_total",
                              "(token, expert) pairs run by an expert worker.")),
      dispatch_seconds_(prometheus::BuildHistogram()
                            .Name("sheaf_dispatch_seconds")
                            .Help("From a dispatch to its answer.")
                            .Register(registry)) {
  auto& lost = Counters(registry, "sheaf_links_lost_total", "Links to workers that ended.");
  for (size_t i = 0; i < links_lost_.size(); ++i) {
    links_lost_[i] = &lost.Add({{"cause", kLinkEnds[i]}});
  }
  auto& coverage = prometheus::BuildGauge()
                       .Name("sheaf_expert_coverage")
                       .Help("(layer, expert) pairs by number of live holders.")
                       .Register(registry);
  for (size_t i = 0; i < coverage_.size(); ++i) {
    coverage_[i] = &coverage.Add({{"holders", kHolders[i]}});
  }
  auto& again = Counters(registry, "sheaf_redispatched_pairs_total",
                         "(token, expert) pairs asked from another worker.");
  for (size_t i = 0; i < asked_again_.size(); ++i) {
    asked_again_[i] = &again.Add({{"cause", kAskedAgain[i]}});
  }
  auto& hedges = Counters(registry, "sheaf_hedges_total",
                          "Dispatches asked from a second worker because the first was late.");
  hedges_won_ = &hedges.Add({{"result", "won"}});
  hedges_lost_ = &hedges.Add({{"result", "lost"}});
  auto& verified = Counters(registry, "sheaf_verified_pairs_total",
                            "(token, expert) pairs that two workers computed.");
  verified_same_ = &verified.Add({{"result", "same"}});
  verified_different_ = &verified.Add({{"result", "different"}});
}

void PoolMetrics::LiveLinksAre(int links) { live_links_.Set(links); }
void PoolMetrics::LinkLost(LinkEnd cause) { links_lost_[static_cast<size_t>(cause)]->Increment(); }
void PoolMetrics::CoverageIs(const std::array<int64_t, 4>& pairs) {
  for (size_t i = 0; i < pairs.size(); ++i) coverage_[i]->Set(static_cast<double>(pairs[i]));
}

void PoolMetrics::StepExchanged(Duration dispatch, Duration combine) {
  step_dispatch_.Observe(Seconds(dispatch));
  step_combine_.Observe(Seconds(combine));
}

void PoolMetrics::BytesExchanged(WorkerId worker, int64_t sent_bytes, int64_t received_bytes) {
  absl::MutexLock lock(&mutex_);
  WorkerFigures& figures = Worker(worker);
  figures.sent_bytes->Increment(static_cast<double>(sent_bytes));
  figures.received_bytes->Increment(static_cast<double>(received_bytes));
}

void PoolMetrics::ExpertTokens(WorkerId worker, int64_t pairs) {
  absl::MutexLock lock(&mutex_);
  Worker(worker).expert_tokens->Increment(static_cast<double>(pairs));
}

void PoolMetrics::ImbalanceIs(double ratio) { imbalance_.Set(ratio); }
void PoolMetrics::PairsAskedAgain(AskedAgain cause, int64_t pairs) {
  asked_again_[static_cast<size_t>(cause)]->Increment(static_cast<double>(pairs));
}
void PoolMetrics::Hedges(int64_t won, int64_t lost) {
  hedges_won_->Increment(static_cast<double>(won));
  hedges_lost_->Increment(static_cast<double>(lost));
}
void PoolMetrics::LateAnswers(int64_t answers) {
  late_answers_.Increment(static_cast<double>(answers));
}
void PoolMetrics::Verified(int64_t same_pairs, int64_t different_pairs) {
  verified_same_->Increment(static_cast<double>(same_pairs));
  verified_different_->Increment(static_cast<double>(different_pairs));
}
void PoolMetrics::StepGivenUp() { steps_given_up_.Increment(); }

void PoolMetrics::Answered(WorkerId worker, std::span<const int64_t> buckets, double sum_seconds) {
  const std::vector<double> increments(buckets.begin(), buckets.end());
  absl::MutexLock lock(&mutex_);
  Worker(worker).dispatch_seconds->ObserveMultiple(increments, sum_seconds);
}

PoolMetrics::WorkerFigures& PoolMetrics::Worker(WorkerId worker) {
  const auto found = workers_.find(worker.value());
  if (found != workers_.end()) return found->second;
  const prometheus::Labels labels = {{"worker", std::to_string(worker.value())}};
  return workers_
      .emplace(worker.value(),
               WorkerFigures{&sent_bytes_.Add(labels), &received_bytes_.Add(labels),
                             &expert_tokens_.Add(labels),
                             &dispatch_seconds_.Add(
                                 labels, Buckets(kAnswerSeconds.begin(), kAnswerSeconds.end()))})
      .first->second;
}

}  // namespace sheaf

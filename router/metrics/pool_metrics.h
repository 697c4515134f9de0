#pragma once
// PoolMetrics: the figures of a router's links to the pool's workers and of what its steps ask
// them. docs/metrics.md lists the names with unit and meaning; a test holds the two together.
//
// Threads     all verbs from any thread. Ownership: the registry outlives this.
// Labels      few values each: worker ids, causes, results.

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/ids.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace sheaf {

class PoolMetrics {
 public:
  explicit PoolMetrics(prometheus::Registry& registry);
  PoolMetrics(const PoolMetrics&) = delete;
  PoolMetrics& operator=(const PoolMetrics&) = delete;

  // --- links, when one changes.
  void LiveLinksAre(int links);
  enum class LinkEnd { kClosed, kSilent, kNonsense, kForged, kRefused, kOther };
  void LinkLost(LinkEnd cause);
  // (layer, expert) pairs with 0, 1, 2, and 3 or more live holders.
  void CoverageIs(const std::array<int64_t, 4>& pairs);

  // --- the layers of a step, once a step: sums.
  void StepExchanged(Duration dispatch, Duration combine);
  void BytesExchanged(WorkerId worker, int64_t sent_bytes, int64_t received_bytes);
  void ExpertTokens(WorkerId worker, int64_t pairs);
  // Most pairs on one live worker / mean over the live workers, in the last step; 1 = balanced.
  void ImbalanceIs(double ratio);
  enum class AskedAgain { kLinkLost, kNotHeld, kLate, kError };
  void PairsAskedAgain(AskedAgain cause, int64_t pairs);
  void Hedges(int64_t won, int64_t lost);
  void LateAnswers(int64_t answers);
  void Verified(int64_t same_pairs, int64_t different_pairs);
  void StepGivenUp();
  // Answers by time, as counts in kAnswerSeconds' buckets (the last: longer), and their sum.
  static constexpr std::array<double, 14> kAnswerSeconds = {
      0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5};
  void Answered(WorkerId worker, std::span<const int64_t> buckets, double sum_seconds);

 private:
  struct WorkerFigures {
    prometheus::Counter* sent_bytes;
    prometheus::Counter* received_bytes;
    prometheus::Counter* expert_tokens;
    prometheus::Histogram* dispatch_seconds;
  };
  WorkerFigures& Worker(WorkerId worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  prometheus::Histogram& step_dispatch_;
  prometheus::Histogram& step_combine_;
  prometheus::Gauge& imbalance_;
  prometheus::Gauge& live_links_;
  std::array<prometheus::Counter*, 6> links_lost_;
  std::array<prometheus::Gauge*, 4> coverage_;
  std::array<prometheus::Counter*, 4> asked_again_;
  prometheus::Counter* hedges_won_;
  prometheus::Counter* hedges_lost_;
  prometheus::Counter& late_answers_;
  prometheus::Counter* verified_same_;
  prometheus::Counter* verified_different_;
  prometheus::Counter& steps_given_up_;
  prometheus::Family<prometheus::Counter>& sent_bytes_;
  prometheus::Family<prometheus::Counter>& received_bytes_;
  prometheus::Family<prometheus::Counter>& expert_tokens_;
  prometheus::Family<prometheus::Histogram>& dispatch_seconds_;

  absl::Mutex mutex_;
  std::map<int32_t, WorkerFigures> workers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sheaf

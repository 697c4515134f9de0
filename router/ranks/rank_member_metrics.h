#pragma once
// RankMemberMetrics: every figure that an attention rank's own process exposes, as verbs.
// docs/metrics.md lists the names; a test holds the two together.
//
// Threads    any. Ownership: the registry outlives this.

#include <cstddef>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"

namespace sheaf {

class RankMemberMetrics {
 public:
  RankMemberMetrics(prometheus::Registry& registry, int rank, const std::string& version);
  RankMemberMetrics(const RankMemberMetrics&) = delete;
  RankMemberMetrics& operator=(const RankMemberMetrics&) = delete;

  void WeightsAre(size_t resident_bytes);
  // Linked to its router, with a KV cache of that size: it computes what the router begins.
  void Joined(size_t kv_cache_bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // It does not: why, for a probe.
  void NotJoined(const std::string& why) ABSL_LOCKS_EXCLUDED(mutex_);
  // A step that it computed its part of, or that was ended before its end.
  void StepEnded(bool done, Duration busy);
  // Empty: it is joined.
  std::string WhyNotReady() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  prometheus::Gauge& joined_;
  prometheus::Counter& groups_;
  prometheus::Counter* steps_done_;
  prometheus::Counter* steps_ended_early_;
  prometheus::Counter& busy_seconds_;
  prometheus::Gauge& weights_bytes_;
  prometheus::Gauge& kv_cache_bytes_;

  mutable absl::Mutex mutex_;
  std::string why_not_ ABSL_GUARDED_BY(mutex_) = "it has not joined its router yet";
};

}  // namespace sheaf

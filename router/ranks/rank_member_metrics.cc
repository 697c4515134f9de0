#include "router/ranks/rank_member_metrics.h"

#include <chrono>

namespace sheaf {
namespace {

prometheus::Counter& Counter(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Gauge& Gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

}  // namespace

RankMemberMetrics::RankMemberMetrics(prometheus::Registry& registry, int rank,
                                     const std::string& version)
    : joined_(Gauge(registry, "sheaf_rank_joined", "1 while it is linked to its router.")),
      groups_(Counter(registry, "sheaf_rank_groups_total", "Times that it joined.")),
      busy_seconds_(Counter(registry, "sheaf_rank_busy_seconds_total",
                            "From a step's plan to the step's end, gathers included.")),
      weights_bytes_(Gauge(registry, "sheaf_rank_weights_bytes", "Resident bytes of its weights.")),
      kv_cache_bytes_(
          Gauge(registry, "sheaf_rank_kv_cache_bytes", "Its part of the KV cache, 0: none now.")) {
  auto& steps = prometheus::BuildCounter()
                    .Name("sheaf_rank_steps_total")
                    .Help("Steps that it took part in.")
                    .Register(registry);
  steps_done_ = &steps.Add({{"outcome", "done"}});
  steps_ended_early_ = &steps.Add({{"outcome", "ended_early"}});
  Gauge(registry, "sheaf_rank_number", "Which rank it is; the router is 0.").Set(rank);
  prometheus::BuildGauge()
      .Name("sheaf_build_info")
      .Help("Always 1; the labels say what runs.")
      .Register(registry)
      .Add({{"version", version}})
      .Set(1);
}

void RankMemberMetrics::WeightsAre(size_t resident_bytes) {
  weights_bytes_.Set(static_cast<double>(resident_bytes));
}

void RankMemberMetrics::Joined(size_t kv_cache_bytes) {
  groups_.Increment();
  kv_cache_bytes_.Set(static_cast<double>(kv_cache_bytes));
  joined_.Set(1);
  absl::MutexLock lock(&mutex_);
  why_not_.clear();
}

void RankMemberMetrics::NotJoined(const std::string& why) {
  joined_.Set(0);
  kv_cache_bytes_.Set(0);
  absl::MutexLock lock(&mutex_);
  why_not_ = why.empty() ? "it is not joined" : why;
}

void RankMemberMetrics::StepEnded(bool done, Duration busy) {
  (done ? steps_done_ : steps_ended_early_)->Increment();
  busy_seconds_.Increment(std::chrono::duration<double>(busy).count());
}

std::string RankMemberMetrics::WhyNotReady() const {
  absl::MutexLock lock(&mutex_);
  return why_not_;
}

}  // namespace sheaf

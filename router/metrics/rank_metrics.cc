#include "router/metrics/rank_metrics.h"

#include <chrono>

#include "prometheus/family.h"

namespace sheaf {
namespace {

constexpr const char* kLossNames[] = {"closed", "late", "nonsense", "forged", "other"};

// As those of the workers' exchange: microseconds over shared memory, seconds for a prefill over a
// network.
prometheus::Histogram::BucketBoundaries GatherBuckets() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
          0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10};
}

prometheus::Gauge& Gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Counter& Counter(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

RankMetrics::RankMetrics(prometheus::Registry& registry, int wanted)
    : wanted_(wanted),
      joined_(Gauge(registry, "sheaf_attention_ranks_joined",
                    "Attention ranks that are there, the router included.")),
      groups_(Counter(registry, "sheaf_attention_groups_total",
                      "Times that the last missing attention rank came.")),
      incomplete_seconds_(Counter(registry, "sheaf_attention_incomplete_seconds_total",
                                  "Time in which an attention rank was missing.")),
      steps_given_up_(Counter(registry, "sheaf_attention_steps_given_up_total",
                              "Steps computed again because an attention rank was lost in them.")),
      sequences_again_(Counter(registry, "sheaf_attention_recomputed_sequences_total",
                               "Sequences computed again from their tokens for a new group.")),
      tokens_again_(Counter(registry, "sheaf_attention_recomputed_tokens_total",
                            "Tokens of those that had been computed.")),
      gathers_(Counter(registry, "sheaf_attention_gathers_total",
                       "Exchanges of parts among attention ranks.")),
      sent_bytes_(Counter(registry, "sheaf_attention_sent_bytes_total",
                          "Bytes of plans and parts sent to the other attention ranks.")),
      received_bytes_(Counter(registry, "sheaf_attention_received_bytes_total",
                              "Bytes of parts received from the other attention ranks.")),
      step_gather_(prometheus::BuildHistogram()
                       .Name("sheaf_step_gather_seconds")
                       .Help("Waiting for the other attention ranks' parts, summed over a step.")
                       .Register(registry)
                       .Add({}, GatherBuckets())) {
  auto& lost = prometheus::BuildCounter()
                   .Name("sheaf_attention_ranks_lost_total")
                   .Help("Attention ranks that left the group.")
                   .Register(registry);
  // All of them from the start, so that a rate misses no first event.
  for (size_t i = 0; i < kLosses; ++i) lost_[i] = &lost.Add({{"cause", kLossNames[i]}});
  Gauge(registry, "sheaf_attention_ranks_wanted",
        "Attention ranks of a whole group, the router included.")
      .Set(wanted);
  joined_.Set(told_.joined);
}

void RankMetrics::GroupIs(const Group& group, TimePoint now) {
  if (incomplete_since_.has_value())
    incomplete_seconds_.Increment(Seconds(now - *incomplete_since_));
  incomplete_since_ = group.joined < wanted_ ? std::optional(now) : std::nullopt;
  joined_.Set(group.joined);
  groups_.Increment(static_cast<double>(group.groups - told_.groups));
  for (size_t i = 0; i < kLosses; ++i) {
    lost_[i]->Increment(static_cast<double>(group.lost[i] - told_.lost[i]));
  }
  told_ = group;
}

void RankMetrics::StepGathered(const Gathers& gathers) {
  gathers_.Increment(static_cast<double>(gathers.gathers));
  sent_bytes_.Increment(static_cast<double>(gathers.sent_bytes));
  received_bytes_.Increment(static_cast<double>(gathers.received_bytes));
  step_gather_.Observe(Seconds(gathers.waited));
}

void RankMetrics::StepGivenUp() { steps_given_up_.Increment(); }

void RankMetrics::ComputedAgain(int64_t sequences, int64_t tokens) {
  sequences_again_.Increment(static_cast<double>(sequences));
  tokens_again_.Increment(static_cast<double>(tokens));
}

}  // namespace sheaf

#include "router/metrics/sequence_metrics.h"

#include <algorithm>
#include <chrono>

#include "prometheus/family.h"

namespace sheaf {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// 1, 2, 5, 10, ... up to the longest context.
Buckets TokenCounts() {
  return {1,    2,    5,     10,    20,    50,     100,    200,    500,     1000,
          2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000};
}
Buckets Phases() {
  return {0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1,   1.5, 2,   2.5, 5,    10,
          15,   20,   30,  40,  50,  60,  120, 240, 480, 960, 1920, 7680};
}
Buckets TokenTimes() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
          0.4,   0.5,    0.75,  1,    2.5,   5,    7.5,   10,  20,   40,  80};
}

prometheus::Histogram& Histogram(prometheus::Registry& registry, const char* name, const char* help,
                                 const Buckets& buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
}

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

SequenceMetrics::SequenceMetrics(prometheus::Registry& registry)
    : prompt_tokens_(Histogram(registry, "sheaf_sequence_prompt_tokens",
                               "Prompt tokens of sequences that ended.", TokenCounts())),
      generated_tokens_(Histogram(registry, "sheaf_sequence_generated_tokens",
                                  "New tokens of sequences that ended.", TokenCounts())),
      prefill_(Histogram(registry, "sheaf_sequence_prefill_seconds",
                         "First admission of a sequence to its first token.", Phases())),
      decode_(Histogram(registry, "sheaf_sequence_decode_seconds",
                        "First token of a sequence to its end.", Phases())),
      run_(Histogram(registry, "sheaf_sequence_run_seconds",
                     "First admission of a sequence to its end.", Phases())),
      per_token_(Histogram(registry, "sheaf_sequence_token_seconds",
                           "Mean time of a sequence's tokens after its first.", TokenTimes())) {}

void SequenceMetrics::Ended(const Figures& figures) {
  prompt_tokens_.Observe(static_cast<double>(figures.prompt_tokens));
  generated_tokens_.Observe(static_cast<double>(figures.generated_tokens));
  if (!figures.first_token) return;
  const Duration decode = std::max(Duration{0}, figures.total - *figures.first_token);
  prefill_.Observe(Seconds(std::max(Duration{0}, *figures.first_token - figures.queued)));
  decode_.Observe(Seconds(decode));
  run_.Observe(Seconds(std::max(Duration{0}, figures.total - figures.queued)));
  if (figures.generated_tokens > 1) {
    per_token_.Observe(Seconds(decode) / static_cast<double>(figures.generated_tokens - 1));
  }
}

}  // namespace sheaf

#include "router/metrics/queue_metrics.h"

#include <chrono>

#include "prometheus/family.h"

namespace sheaf {
namespace {

constexpr const char* kCauses[] = {"full", "never_fits", "too_late"};

// As those of the time to the first token, of which this is a part.
prometheus::Histogram::BucketBoundaries WaitBuckets() {
  return {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
          1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
}

}  // namespace

QueueMetrics::QueueMetrics(prometheus::Registry& registry)
    : queued_tokens_(prometheus::BuildGauge()
                         .Name("sheaf_queued_tokens")
                         .Help("Tokens of the sequences that wait.")
                         .Register(registry)
                         .Add({})),
      queue_seconds_(prometheus::BuildHistogram()
                         .Name("sheaf_queue_seconds")
                         .Help("Submit of a choice to the first time that it runs.")
                         .Register(registry)
                         .Add({}, WaitBuckets())),
      displacements_(prometheus::BuildCounter()
                         .Name("sheaf_displacements_total")
                         .Help("Sequences put back so that others get their share of the slots.")
                         .Register(registry)
                         .Add({})) {
  auto& refused = prometheus::BuildCounter()
                      .Name("sheaf_requests_refused_total")
                      .Help("Requests that the queue did not take.")
                      .Register(registry);
  // All of them from the start, so that a rate misses no first event.
  for (int cause = 0; cause < 3; ++cause) {
    refused_[cause] = &refused.Add({{"cause", kCauses[cause]}});
  }
}

void QueueMetrics::QueuedTokensAre(int64_t tokens) {
  queued_tokens_.Set(static_cast<double>(tokens));
}

void QueueMetrics::Admitted(Duration since_submit) {
  queue_seconds_.Observe(std::chrono::duration<double>(since_submit).count());
}

void QueueMetrics::Refused(Refusal cause, int64_t requests) {
  refused_[static_cast<int>(cause)]->Increment(static_cast<double>(requests));
}

void QueueMetrics::Displaced(int64_t sequences) {
  displacements_.Increment(static_cast<double>(sequences));
}

}  // namespace sheaf

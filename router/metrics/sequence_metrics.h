#pragma once
// SequenceMetrics: the shape and the phases of sequences (choices) that have ended, as verbs
// (docs/metrics.md); of one RouterMetrics' registry.
//
// Who calls   the engine's observer, once for each sequence at its end.
// Threads     any; each verb locks a histogram for a moment. Ownership   the registry outlives
//             this.

#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace sheaf {

class SequenceMetrics {
 public:
  explicit SequenceMetrics(prometheus::Registry& registry);
  SequenceMetrics(const SequenceMetrics&) = delete;
  SequenceMetrics& operator=(const SequenceMetrics&) = delete;

  struct Figures {
    int64_t prompt_tokens = 0;
    int64_t generated_tokens = 0;             // here; a prior output is not among them
    Duration queued{0};                       // submit to first admission
    std::optional<Duration> first_token = {};  // submit to the first one; nullopt: there was none
    Duration total{0};                        // submit to end
  };
  void Ended(const Figures& figures);

 private:
  prometheus::Histogram& prompt_tokens_;
  prometheus::Histogram& generated_tokens_;
  prometheus::Histogram& prefill_;
  prometheus::Histogram& decode_;
  prometheus::Histogram& run_;
  prometheus::Histogram& per_token_;
};

}  // namespace sheaf

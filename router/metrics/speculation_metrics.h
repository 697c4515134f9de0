#pragma once
// SpeculationMetrics: what became of drafted tokens. docs/metrics.md lists the names with unit and
// meaning; a test holds the two together.
//
// Threads     all verbs from any thread. Ownership: the registry outlives this.
// Labels      positions of a draft, at most kPositions.

#include <array>
#include <cstdint>
#include <span>

#include "prometheus/counter.h"
#include "prometheus/registry.h"

namespace sheaf {

class SpeculationMetrics {
 public:
  static constexpr int kPositions = 16;

  explicit SpeculationMetrics(prometheus::Registry& registry);
  SpeculationMetrics(const SpeculationMetrics&) = delete;
  SpeculationMetrics& operator=(const SpeculationMetrics&) = delete;

  // Of one step: drafts, all their tokens, and by position in the draft those that came true.
  void Verified(int64_t drafts, int64_t drafted_tokens, std::span<const int> accepted_at);

 private:
  prometheus::Counter& drafts_;
  prometheus::Counter& drafted_tokens_;
  std::array<prometheus::Counter*, kPositions> accepted_tokens_;
};

}  // namespace sheaf

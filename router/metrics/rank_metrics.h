#pragma once
// RankMetrics: the figures of a router's attention ranks, as verbs (docs/metrics.md); of one
// RouterMetrics' registry. Registered also where a single rank is all there is.
//
// Who calls   GroupIs: the owner's loop, about every 50 ms. The others: the engine's observer, on
//             the step thread.
// Threads     one for GroupIs; any for the rest; lock-free. Ownership   the registry outlives this.

#include <array>
#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace sheaf {

class RankMetrics {
 public:
  // `wanted`: ranks of a whole group, the router included.
  RankMetrics(prometheus::Registry& registry, int wanted);
  RankMetrics(const RankMetrics&) = delete;
  RankMetrics& operator=(const RankMetrics&) = delete;

  enum class Loss { kClosed, kLate, kNonsense, kForged, kOther };
  static constexpr size_t kLosses = 5;
  // All but `joined` since the start.
  struct Group {
    int joined = 1;      // ranks that are there, the router included
    int64_t groups = 0;  // times that the last missing one came
    std::array<int64_t, kLosses> lost{};
  };
  // What lies between two calls counts as what the first of them said.
  void GroupIs(const Group& group, TimePoint now);

  // Of a step, whether it succeeded or not.
  struct Gathers {
    int64_t gathers = 0;
    int64_t sent_bytes = 0;
    int64_t received_bytes = 0;
    Duration waited{0};
  };
  void StepGathered(const Gathers& gathers);
  void StepGivenUp();
  // A new group has nothing of what was computed.
  void ComputedAgain(int64_t sequences, int64_t tokens);

 private:
  const int wanted_;
  prometheus::Gauge& joined_;
  prometheus::Counter& groups_;
  std::array<prometheus::Counter*, kLosses> lost_{};
  prometheus::Counter& incomplete_seconds_;
  prometheus::Counter& steps_given_up_;
  prometheus::Counter& sequences_again_;
  prometheus::Counter& tokens_again_;
  prometheus::Counter& gathers_;
  prometheus::Counter& sent_bytes_;
  prometheus::Counter& received_bytes_;
  prometheus::Histogram& step_gather_;

  Group told_;
  std::optional<TimePoint> incomplete_since_;
};

}  // namespace sheaf

#pragma once
// ExpertLoad: (token, expert) pairs that routers sent, by expert, older ones counting less.
//
// Threads    one at a time; time comes in. Cost: Decay is O(experts), done at most once a second.

#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "base/clock.h"

namespace sheaf {

class ExpertLoad {
 public:
  ExpertLoad(size_t experts, Duration half_life) : pairs_(experts, 0), half_life_(half_life) {}

  // `pairs` has one figure an expert; another size is ignored (the caller checked it).
  template <typename Pairs>
  void Add(const Pairs& pairs, TimePoint now) {
    if (static_cast<size_t>(pairs.size()) != pairs_.size()) return;
    Decay(now);
    for (size_t i = 0; i < pairs_.size(); ++i) {
      pairs_[i] += static_cast<double>(pairs[static_cast<int>(i)]);
    }
  }

  std::span<const double> pairs() const { return pairs_; }
  double total() const { return std::accumulate(pairs_.begin(), pairs_.end(), 0.0); }

 private:
  void Decay(TimePoint now) {
    if (now - decayed_ < std::chrono::seconds(1)) return;
    const double lives =
        std::chrono::duration<double>(now - decayed_) / std::chrono::duration<double>(half_life_);
    const double factor = std::exp2(-lives);
    for (double& pairs : pairs_) pairs *= factor;
    decayed_ = now;
  }

  std::vector<double> pairs_;
  const Duration half_life_;
  TimePoint decayed_;
};

}  // namespace sheaf

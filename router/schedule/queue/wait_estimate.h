#pragma once
// WaitEstimate: how fast the queue moves, by what was measured, and what follows from it for those
// who wait or would.
//
// Rates      sequences and tokens taken a second, over the time in which others went on waiting (an
//            idle machine says nothing), old measurements fading within kMemory. A queue that
//            stands still is measured too: the time since the last taking counts.
// Sure       bounds below are optimistic: both rates are taken for true and the better one counts,
//            speeds are the best seen lately, and all is divided by kSureFactor. nullopt or zero
//            while too little is measured.
// Threads    none of its own: the caller's lock. Time is passed in. Cost  O(1).

#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace sheaf {

class WaitEstimate {
 public:
  static constexpr Duration kMemory = std::chrono::seconds(10);
  static constexpr int kFewestTaken = 16;  // before the rates count
  static constexpr int kFewestSteps = 8;   // before the speeds count
  static constexpr double kSureFactor = 2;

  // At `now` so many were taken from the queue; do others wait on?
  void Taken(int64_t sequences, int64_t tokens, bool others_wait, TimePoint now);
  // Nobody waits any more.
  void Emptied() { measuring_ = false; }
  // A step ran: of prompts so many tokens, and at most so many new ones for a sequence.
  void StepRan(Duration took, int64_t prefill_tokens, int64_t most_new_tokens);

  // Until so many sequences with so many tokens are taken, as measured.
  std::optional<Duration> TimeToTake(int64_t sequences, int64_t tokens, TimePoint now) const;
  // It surely takes at least this long.
  Duration SurelyWaits(int64_t sequences, int64_t tokens, TimePoint now) const;
  // To compute `prefill_tokens` and then one by one `new_tokens`.
  Duration SurelyRuns(int64_t prefill_tokens, int64_t new_tokens) const;

 private:
  struct Window {
    double sequences = 0;
    double tokens = 0;
    double seconds = 0;
  };
  Window At(TimePoint now) const;

  bool measuring_ = false;  // others have waited since last_
  TimePoint last_{};
  Window window_;
  int64_t taken_ = 0;  // ever, while measuring
  int64_t steps_ = 0;
  // Best of late, sinking slowly so that one odd step is forgotten.
  double prefill_per_second_ = 0;
  double new_per_second_ = 0;
};

}  // namespace sheaf

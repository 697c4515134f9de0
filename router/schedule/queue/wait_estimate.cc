#include "router/schedule/queue/wait_estimate.h"

#include <algorithm>
#include <cmath>

namespace sheaf {
namespace {

constexpr double kSink = 1.0 / 256;  // of a best speed, each step

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

Duration FromSeconds(double seconds) {
  // Beyond that, never: and no overflow.
  constexpr double kLongest = 1e8;
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(std::min(seconds, kLongest)));
}

void Follow(double& best, double seen) { best = std::max(seen, best + (seen - best) * kSink); }

}  // namespace

WaitEstimate::Window WaitEstimate::At(TimePoint now) const {
  if (!measuring_) return window_;
  const double elapsed = std::max(0.0, Seconds(now - last_));
  const double kept = std::exp(-elapsed / Seconds(kMemory));
  return {window_.sequences * kept, window_.tokens * kept, window_.seconds * kept + elapsed};
}

void WaitEstimate::Taken(int64_t sequences, int64_t tokens, bool others_wait, TimePoint now) {
  if (measuring_) {
    window_ = At(now);
    window_.sequences += static_cast<double>(sequences);
    window_.tokens += static_cast<double>(tokens);
    taken_ += sequences;
  }
  measuring_ = others_wait;
  last_ = now;
}

void WaitEstimate::StepRan(Duration took, int64_t prefill_tokens, int64_t most_new_tokens) {
  const double seconds = Seconds(took);
  if (seconds <= 0) return;
  ++steps_;
  if (prefill_tokens > 0) {
    Follow(prefill_per_second_, static_cast<double>(prefill_tokens) / seconds);
  }
  if (most_new_tokens > 0) Follow(new_per_second_, static_cast<double>(most_new_tokens) / seconds);
}

std::optional<Duration> WaitEstimate::TimeToTake(int64_t sequences, int64_t tokens,
                                                 TimePoint now) const {
  if (taken_ < kFewestTaken) return std::nullopt;
  const Window window = At(now);
  if (window.seconds <= 0) return std::nullopt;
  const double by_sequences =
      window.sequences > 0 ? static_cast<double>(sequences) * window.seconds / window.sequences : 0;
  const double by_tokens =
      window.tokens > 0 ? static_cast<double>(tokens) * window.seconds / window.tokens : 0;
  return FromSeconds(std::min(by_sequences, by_tokens));
}

Duration WaitEstimate::SurelyWaits(int64_t sequences, int64_t tokens, TimePoint now) const {
  const std::optional<Duration> wait = TimeToTake(sequences, tokens, now);
  if (!wait.has_value()) return Duration{0};
  return FromSeconds(Seconds(*wait) / kSureFactor);
}

Duration WaitEstimate::SurelyRuns(int64_t prefill_tokens, int64_t new_tokens) const {
  if (steps_ < kFewestSteps) return Duration{0};
  double seconds = 0;
  if (prefill_per_second_ > 0) seconds += static_cast<double>(prefill_tokens) / prefill_per_second_;
  if (new_per_second_ > 0) seconds += static_cast<double>(new_tokens) / new_per_second_;
  return FromSeconds(seconds / kSureFactor);
}

}  // namespace sheaf

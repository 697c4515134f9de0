#include "router/schedule/speculation/draft_payoff.h"

#include <algorithm>
#include <bit>
#include <chrono>

namespace sheaf {
namespace {

constexpr double kNewest = 1.0 / 16;

}  // namespace

size_t DraftPayoff::ClassOf(int sequences) {
  const int width = std::bit_width(static_cast<unsigned>(std::max(sequences, 1))) - 1;
  return static_cast<size_t>(std::min(width, kClasses - 1));
}

bool DraftPayoff::MayDraft(int sequences) const {
  const Class& of = classes_[ClassOf(sequences)];
  if (of.plain.steps < kFew) return false;
  return of.left_out == 0 && of.since_plain < kPlainEvery;
}

void DraftPayoff::StepRan(int sequences, bool drafted, int tokens, Duration took) {
  if (tokens < 1) return;
  Class& of = classes_[ClassOf(sequences)];
  Kind& kind = drafted ? of.drafted : of.plain;
  const double us = std::chrono::duration<double, std::micro>(took).count() / tokens;
  // The first ones count alike; later a stall of the machine moves the mean by a little.
  const double weight = std::max(1.0 / (kind.steps + 1), kNewest);
  const double told = kind.steps < kFew ? us : std::min(us, 4 * kind.us_per_token);
  kind.us_per_token += weight * (told - kind.us_per_token);
  kind.steps = std::min(kind.steps + 1, 1 << 20);
  if (!drafted) {
    of.since_plain = 0;
    of.left_out = std::max(0, of.left_out - 1);
    return;
  }
  ++of.since_plain;
  if (of.drafted.steps < kFew) return;
  if (of.drafted.us_per_token < of.plain.us_per_token) {
    of.pause = kFirstPause;
    return;
  }
  of.left_out = of.pause;
  of.pause = std::min(2 * of.pause, kLongestPause);
  of.drafted.steps = 0;  // the next attempt is judged by itself
}

}  // namespace sheaf

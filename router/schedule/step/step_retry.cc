#include "router/schedule/step/step_retry.h"

#include <algorithm>

namespace sheaf {

void StepRetry::Stall(const absl::Status& cause, TimePoint since) {
  if (!stalled_since_.has_value()) stalled_since_ = since;
  cause_ = cause;
}

bool StepRetry::MayStep(const absl::Status& cluster, TimePoint now) {
  if (cluster.ok()) return now >= not_before_;
  Stall(cluster, now);
  given_up_ = 0;
  not_before_ = TimePoint::min();
  return false;
}

void StepRetry::StepGivenUp(const absl::Status& cause, bool moot, TimePoint began, TimePoint now) {
  if (moot && stalled_since_.has_value()) return;
  Stall(cause, began);
  if (moot) return;
  if (given_up_++ == 0) {
    not_before_ = TimePoint::min();
    return;
  }
  Duration wait = options_.first_wait;
  for (int i = 2; i < given_up_ && wait < options_.longest_wait; ++i) wait *= 2;
  not_before_ = now + std::min(wait, options_.longest_wait);
}

void StepRetry::StepDone() {
  stalled_since_.reset();
  cause_ = absl::OkStatus();
  given_up_ = 0;
  not_before_ = TimePoint::min();
}

Duration StepRetry::LookAgainIn(TimePoint now) const {
  if (not_before_ <= now) return options_.poll;
  return std::min(options_.poll, not_before_ - now);
}

}  // namespace sheaf

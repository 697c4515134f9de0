#include "cli/process/restart_policy.h"

#include <algorithm>

namespace sheaf {

Duration RestartWait(Duration last, const ChildEnd& end) {
  if (last == Duration::zero() || end.lived >= kHealthyAfter) return kFirstRestartWait;
  const bool missed = end.by_signal && end.had_served;
  return std::min<Duration>(2 * last, missed ? kLongestWaitOfAMissedOne : kLongestRestartWait);
}

}  // namespace sheaf

#pragma once
// SendPauses: how long to wait before a batch is sent once more: twice as long each time, with a
// random share, so that many processes do not come back to a collector at once.
//
// Threads  one at a time. Pure: randomness comes in.

#include <algorithm>
#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace sheaf {

class SendPauses {
 public:
  SendPauses(Duration first, Duration longest) : next_(first), longest_(longest) {}

  // `wanted`: what the collector asks for; it counts where it is longer, up to the longest pause.
  Duration Next(std::optional<Duration> wanted, uint64_t random) {
    const Duration whole = std::min(next_, longest_);
    next_ = std::min(2 * whole, longest_);
    // [1/2, 1) of it.
    const Duration pause = whole / 2 + (whole / 2) * static_cast<int64_t>(random % 1024) / 1024;
    return wanted ? std::min(std::max(*wanted, pause), longest_) : pause;
  }

 private:
  Duration next_;
  const Duration longest_;
};

}  // namespace sheaf

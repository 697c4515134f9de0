#pragma once
// RefusedHellos: lines for the log about connections that became no link, a few of each cause in a
// while: strangers can cause any number of them.
//
// Threads    any.

#include <array>

#include "base/clock.h"
#include "base/log_limit.h"
#include "exchange/link/hello_refusal.h"

namespace sheaf {

class RefusedHellos {
 public:
  void Tell(const RefusedHello& refused, TimePoint now);

 private:
  std::array<LogLimit, kHelloRefusals> limits_;  // by cause
};

}  // namespace sheaf

#pragma once
// ExchangeWait: how a process waits for the other side of its links. A layer is a question and its
// answers, tens of microseconds to milliseconds apart; waking a sleeper takes its share of that.
//
//   sleep   at once, its compute threads too: where there are more compute threads than cores
//   yield   looks for a while, its compute threads asleep, and gives its core to whoever is ready
//           there at every look: where router and workers share cores
//   spin    looks for longer, its compute threads awake: where it has cores of its own
//
// Where waits have lately been longer than one looks, it sleeps at once (Bell::LookPast): looking
// would only take the others' time.

#include "base/clock.h"

namespace sheaf {

struct ExchangeWait {
  Duration look{0};           // before it sleeps
  bool park_threads = true;   // before it looks

  static constexpr ExchangeWait Sleep() { return {}; }
  static constexpr ExchangeWait Yield() { return {std::chrono::microseconds(60), true}; }
  static constexpr ExchangeWait Spin() { return {std::chrono::microseconds(200), false}; }
};

}  // namespace sheaf

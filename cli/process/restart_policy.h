#pragma once
// How long a child process that has ended stays ended.
//
// A child that fails at once would fail again at once: the wait doubles from 100 ms to 5 s, and
// begins anew after a life of 10 s. One that did its work until a signal ended it (killed, crashed,
// out of memory) is missed by all others now: its wait doubles to half a second at most.
//
// Threads    pure.

#include <chrono>

#include "base/clock.h"

namespace sheaf {

inline constexpr std::chrono::milliseconds kFirstRestartWait{100};
inline constexpr std::chrono::milliseconds kLongestRestartWait{5000};
inline constexpr std::chrono::milliseconds kLongestWaitOfAMissedOne{500};
inline constexpr std::chrono::seconds kHealthyAfter{10};

struct ChildEnd {
  Duration lived{0};
  bool by_signal = false;
  bool had_served = false;  // it had come to do its work
};

// `last`: the wait before this life; zero: there was none.
Duration RestartWait(Duration last, const ChildEnd& end);

}  // namespace sheaf

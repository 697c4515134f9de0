#pragma once
// SlotTurns: who of those that run gives its place to the one that is next in the queue
// (fair_order.h). A pure decision: the order of the queue alone would let whoever came first keep
// every slot for as long as its outputs last.
//
// Who may ask   the next one in the queue, when it finds no slot or too few blocks, and
//               its priority is better than that of one that runs: after priority_patience;
//               else its key (or, of the same key, its group) has had nothing taken for `patience`
//               and has at least two sequences fewer running than the one asked: so they never
//               change places for ever.
// Who is asked  the worst priority first; then the key, then the group with most running; then who
//               has least in the cache: it costs least to compute again.
//               Never one that was taken less than min_turn ago; once it has been displaced, less
//               than `later_turn` ago, twice that after the second time, and so on: so it ends.
// Result        as few as make room enough; empty when even all that may be asked would not, or
//               when nothing of it is due yet.
// Threads       pure. Cost  O(running) for each asked; O(1) when there is room or patience lasts.

#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "router/schedule/queue/fair_order.h"

namespace sheaf {

struct SlotTurnOptions {
  Duration priority_patience = std::chrono::milliseconds(100);
  Duration patience = std::chrono::seconds(1);
  Duration min_turn = std::chrono::seconds(1);
  Duration later_turn = std::chrono::seconds(20);
};

struct SlotHolder {
  FairOrder::Standing standing;
  int computed_tokens = 0;
  int blocks = 0;  // free when it goes
};

struct SlotRoom {
  int free_slots = 0;
  int free_blocks = 0;  // beyond what those that run will need next
  int blocks_wanted = 0;  // by the next one in the queue
};

std::vector<SequenceId> WhoYields(const FairOrder::Standing& next,
                                  std::span<const SlotHolder> running, const SlotRoom& room,
                                  const SlotTurnOptions& options, TimePoint now);

}  // namespace sheaf

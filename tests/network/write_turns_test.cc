// Every order of events that a call can see, up to a length: what gRPC aborts for never happens.
#include "network/write_turns.h"

#include "gtest/gtest.h"

namespace sheaf {
namespace {

using Turn = WriteTurns::Turn;

// A call as gRPC sees it.
struct Call {
  WriteTurns turns;
  int messages = 0;  // that wait
  bool end = false;
  bool under_way = false;  // a write, for gRPC
  int finishes = 0;
};

// One reactor's Advance; false: gRPC would have aborted.
bool Advance(Call& call) {
  switch (call.turns.Next(call.messages > 0, call.end)) {
    case Turn::kWrite:
      if (call.under_way || call.finishes > 0) return false;
      call.under_way = true;
      --call.messages;
      return true;
    case Turn::kFinish:
      if (call.under_way || ++call.finishes > 1) return false;
      return call.messages == 0;  // nothing that waited was forgotten
    case Turn::kNone:
      return true;
  }
  return false;
}

void Explore(Call call, int events_left, int& ends) {
  if (call.finishes > 0) ++ends;
  if (events_left == 0) return;
  for (int event = 0; event < 4; ++event) {
    Call next = call;
    switch (event) {
      case 0:  // a message
        if (next.messages == 2) continue;
        ++next.messages;
        break;
      case 1:  // the end of the generation
        next.end = true;
        break;
      case 2:  // a cancel: what waits is dropped
        next.messages = 0;
        next.end = true;
        break;
      case 3:  // the write's end
        if (!next.under_way) continue;
        next.under_way = false;
        next.turns.Written();
        break;
    }
    ASSERT_TRUE(Advance(next));
    ASSERT_EQ(next.turns.writing(), next.under_way);
    ASSERT_EQ(next.turns.finished(), next.finishes == 1);
    Explore(next, events_left - 1, ends);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(WriteTurns, EveryOrderOfEventsIsLegal) {
  int ends = 0;
  Explore({}, 9, ends);
  EXPECT_GT(ends, 1000);
}

TEST(WriteTurns, ACallThatEndedEndsWhenItsWriteHas) {
  WriteTurns turns;
  EXPECT_EQ(turns.Next(true, false), Turn::kWrite);
  EXPECT_EQ(turns.Next(true, true), Turn::kNone);
  turns.Written();
  EXPECT_EQ(turns.Next(false, true), Turn::kFinish);
  EXPECT_EQ(turns.Next(true, true), Turn::kNone);
}

}  // namespace
}  // namespace sheaf

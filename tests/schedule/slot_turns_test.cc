#include "router/schedule/queue/slot_turns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <set>

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Duration kSecond = std::chrono::seconds(1);
const SlotTurnOptions kOptions;

class SlotTurnsTest : public ::testing::Test {
 protected:
  // Runs since a minute.
  SlotHolder& Runs(uint64_t id, uint64_t key, uint64_t group, int32_t priority = 0,
                   int computed = 100, int blocks = 7) {
    SlotHolder holder;
    holder.standing.id = SequenceId(id);
    holder.standing.key = key;
    holder.standing.group = group;
    holder.standing.priority = priority;
    holder.standing.taken = now_ - 60 * kSecond;
    holder.computed_tokens = computed;
    holder.blocks = blocks;
    running_.push_back(holder);
    return running_.back();
  }
  std::vector<uint64_t> Yield(uint64_t key, uint64_t group, Duration waited, SlotRoom room = {},
                              int32_t priority = 0) {
    FairOrder::Standing next;
    next.id = SequenceId(1000);
    next.key = key;
    next.group = group;
    next.priority = priority;
    next.key_unserved_since = next.group_unserved_since = now_ - waited;
    const std::vector<SlotHolder> running(running_.begin(), running_.end());
    std::vector<uint64_t> ids;
    for (const SequenceId id : WhoYields(next, running, room, kOptions, now_)) {
      ids.push_back(id.value());
    }
    return ids;
  }

  TimePoint now_{1000 * kSecond};
  std::deque<SlotHolder> running_;
};

TEST_F(SlotTurnsTest, OneOfTheKeyWithMostGivesItsPlaceAfterPatience) {
  Runs(1, 7, 1);
  Runs(2, 7, 2, 0, 50);
  Runs(3, 7, 3);
  Runs(4, 8, 4, 0, 10);
  EXPECT_THAT(Yield(9, 100, kOptions.patience / 2), IsEmpty()) << "a moment";
  EXPECT_THAT(Yield(9, 100, kOptions.patience), ElementsAre(2)) << "least to compute again";
  EXPECT_THAT(Yield(9, 100, kOptions.patience, {.free_slots = 1}), IsEmpty()) << "there is room";
  EXPECT_THAT(Yield(7, 100, kOptions.patience), IsEmpty()) << "it has most itself";
}

TEST_F(SlotTurnsTest, NobodyGivesWhenTheyWouldOnlyChangePlaces) {
  Runs(1, 7, 1);
  Runs(2, 8, 2);
  EXPECT_THAT(Yield(9, 100, kSecond * 100), IsEmpty()) << "each has one";
  Runs(3, 8, 3);
  EXPECT_THAT(Yield(7, 100, kSecond * 100), IsEmpty()) << "two against one";
  Runs(4, 8, 4);
  EXPECT_THAT(Yield(7, 100, kSecond * 100), ElementsAre(2)) << "three against one";
}

TEST_F(SlotTurnsTest, WithinAKeyTheGroupWithMost) {
  for (uint64_t id = 1; id <= 5; ++id) Runs(id, 7, 1);
  Runs(6, 7, 2, 0, 1);
  EXPECT_THAT(Yield(7, 3, kOptions.patience), ElementsAre(1));
  EXPECT_THAT(Yield(7, 1, kOptions.patience), IsEmpty());
}

TEST_F(SlotTurnsTest, ABetterPriorityWaitsLess) {
  Runs(1, 7, 1, 0);
  Runs(2, 7, 1, 5, 900);
  Runs(3, 7, 1, 5, 800);
  EXPECT_THAT(Yield(7, 1, kOptions.priority_patience, {}, 3), ElementsAre(3));
  EXPECT_THAT(Yield(7, 1, kOptions.priority_patience / 2, {}, 3), IsEmpty());
  EXPECT_THAT(Yield(9, 1, kSecond * 100, {}, 6), IsEmpty()) << "the worst of all";
}

TEST_F(SlotTurnsTest, NotWhoHasJustBegun) {
  Runs(1, 7, 1).standing.taken = now_ - kOptions.min_turn / 2;
  Runs(2, 7, 2).standing.displaced = 1;
  Runs(3, 7, 3).standing.displaced = 3;
  EXPECT_THAT(Yield(9, 9, kSecond * 9), ElementsAre(2));
  running_[1].standing.taken = now_ - kOptions.later_turn / 2;
  EXPECT_THAT(Yield(9, 9, kSecond * 9), IsEmpty()) << "displaced before: a longer turn";
  now_ += kSecond * 30;
  EXPECT_THAT(Yield(9, 9, kSecond * 9), ElementsAre(1));
}

TEST_F(SlotTurnsTest, SeveralWhenOneHasTooFewBlocksAndNoneWhenAllHave) {
  for (uint64_t id = 1; id <= 5; ++id) Runs(id, 7, id, 0, 100, 4);
  Runs(6, 8, 6, 0, 1, 4);
  const SlotRoom room{.free_slots = 3, .free_blocks = 1, .blocks_wanted = 9};
  EXPECT_THAT(Yield(9, 9, kSecond * 9, room), ElementsAre(1, 2));
  EXPECT_THAT(Yield(9, 9, kSecond * 9, {.free_slots = 3, .blocks_wanted = 100}), IsEmpty())
      << "in vain";
}

// One key holds everything with endless outputs, another wants as much: they end with half each,
// and then nothing moves.
TEST_F(SlotTurnsTest, EndsWithEqualSharesAndThenStandsStill) {
  std::map<uint64_t, int> has{{7, 16}, {8, 0}};
  for (uint64_t id = 1; id <= 16; ++id) Runs(id, 7, id);
  uint64_t last = 100;
  Duration waited{0};
  int moves = 0;
  for (int i = 0; i < 600; ++i) {
    now_ += kSecond / 10;
    waited += kSecond / 10;
    for (const uint64_t id : Yield(8, 1000, waited)) {
      std::erase_if(running_, [&](const SlotHolder& h) { return h.standing.id.value() == id; });
      --has[7];
      ++last;
      Runs(last, 8, last).standing.taken = now_;
      ++has[8];
      ++moves;
      waited = Duration{0};
    }
  }
  EXPECT_EQ(has[7], has[8]);
  EXPECT_EQ(moves, 8);
}

}  // namespace
}  // namespace sheaf

#include "router/schedule/queue/fair_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Duration kSecond = std::chrono::seconds(1);

SequenceId Id(uint64_t id) { return SequenceId(id); }

class FairOrderTest : public ::testing::Test {
 protected:
  void Add(uint64_t id, std::string_view key = "", int tokens = 10, int32_t priority = 0,
           uint64_t group = 0) {
    order_.Add({Id(id), priority, key, group == 0 ? id : group, tokens}, now_);
  }
  void Group(uint64_t first, int count, std::string_view key = "", int tokens = 10) {
    for (int i = 0; i < count; ++i) Add(first + static_cast<uint64_t>(i), key, tokens, 0, first);
  }
  std::vector<uint64_t> Peek(int count) {
    std::vector<uint64_t> ids;
    for (const SequenceId id : order_.Peek(count, now_)) ids.push_back(id.value());
    return ids;
  }
  uint64_t TakeNext() {
    const uint64_t id = Peek(1).at(0);
    order_.Take(Id(id), now_);
    return id;
  }
  std::vector<uint64_t> TakeAll() {
    std::vector<uint64_t> taken;
    while (order_.waiting().sequences > 0) taken.push_back(TakeNext());
    return taken;
  }

  FairOrder order_;
  TimePoint now_{kSecond};
};

TEST_F(FairOrderTest, EqualsComeInTheOrderOfTheirArrival) {
  for (uint64_t id : {1, 2, 3, 4}) Add(id);
  EXPECT_THAT(Peek(3), ElementsAre(1, 2, 3));
  EXPECT_THAT(Peek(9), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(order_.waiting().tokens, 40);
  EXPECT_THAT(TakeAll(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(Peek(9), IsEmpty());
  EXPECT_EQ(order_.waiting().tokens, 0);
}

TEST_F(FairOrderTest, KeysTakeTurnsHoweverManyEachHas) {
  for (uint64_t id : {1, 2, 3, 4, 5, 6}) Add(id, "many");
  for (uint64_t id : {11, 12}) Add(id, "few");
  EXPECT_THAT(Peek(8), ElementsAre(1, 11, 2, 12, 3, 4, 5, 6));
  EXPECT_THAT(TakeAll(), ElementsAre(1, 11, 2, 12, 3, 4, 5, 6));
}

TEST_F(FairOrderTest, TurnsGoByTokensAndNotByRequests) {
  for (uint64_t id : {1, 2, 3}) Add(id, "long", 100);
  for (uint64_t id : {11, 12, 13, 14, 15, 16}) Add(id, "short", 40);
  // 100 | 40 80 120 | 200 | 160 200 240
  EXPECT_THAT(TakeAll(), ElementsAre(1, 11, 12, 13, 2, 14, 15, 3, 16));
}

TEST_F(FairOrderTest, WhatIsGeneratedCountsToo) {
  Add(1, "talks");
  Add(2, "listens");
  EXPECT_EQ(TakeNext(), 1u);
  EXPECT_EQ(TakeNext(), 2u);
  order_.Ran(Id(1), 10, true);
  order_.Ran(Id(2), 10, true);
  for (int i = 0; i < 30; ++i) order_.Ran(Id(1), 1, true);
  for (uint64_t id : {3, 4}) Add(id, "talks");
  for (uint64_t id : {11, 12, 13, 14}) Add(id, "listens");
  EXPECT_THAT(Peek(6), ElementsAre(3, 11, 4, 12, 13, 14))
      << "nobody waited while the one was served: no debt";
  for (int i = 0; i < 30; ++i) order_.Ran(Id(1), 1, true);
  EXPECT_THAT(Peek(6), ElementsAre(11, 12, 13, 3, 14, 4)) << "now another waited";
}

TEST_F(FairOrderTest, WhatTheCacheHadIsGivenBack) {
  for (uint64_t id : {1, 2, 3}) Add(id, "cached", 100);
  for (uint64_t id : {11, 12}) Add(id, "computed", 100);
  EXPECT_EQ(TakeNext(), 1u);
  order_.Ran(Id(1), 20, true);  // its other 80 tokens were there
  EXPECT_EQ(TakeNext(), 11u);
  order_.Ran(Id(11), 100, true);
  EXPECT_THAT(Peek(3), ElementsAre(2, 12, 3)) << "20 against 100";
}

TEST_F(FairOrderTest, IdlingGivesNoCredit) {
  for (uint64_t id = 1; id <= 20; ++id) Add(id, "busy");
  for (int i = 0; i < 10; ++i) TakeNext();
  for (uint64_t id = 101; id <= 110; ++id) Add(id, "back");
  EXPECT_THAT(Peek(6), ElementsAre(101, 11, 102, 12, 103, 13)) << "no ten in a row";
}

TEST_F(FairOrderTest, ADebtIsKeptWhileOthersWaitAndForgottenOnceTheyCaughtUp) {
  Add(1, "greedy");
  for (uint64_t id = 11; id <= 40; ++id) Add(id, "patient");
  EXPECT_EQ(TakeNext(), 1u);
  order_.Ran(Id(1), 95, true);
  order_.Forget(Id(1));
  EXPECT_EQ(order_.num_keys(), 2);
  Add(2, "greedy");
  EXPECT_EQ(Peek(11).back(), 2u) << "the other gets 90 tokens first";
  order_.Forget(Id(2));
  for (int i = 0; i < 12; ++i) TakeNext();
  EXPECT_EQ(order_.num_keys(), 1) << "paid and forgotten";
}

TEST_F(FairOrderTest, IdleKeysAreForgotten) {
  FairOrder order({.max_idle_keys = 10});
  order.Add({Id(1), 0, "stays", 1, 5}, now_);
  for (uint64_t id = 2; id < 1000; ++id) {
    order.Add({Id(id), 0, std::to_string(id), id, 5}, now_);
    order.Take(Id(id), now_);
    order.Ran(Id(id), 5, true);
    order.Forget(Id(id));
    ASSERT_LE(order.num_keys(), 11);
  }
  order.Forget(Id(1));
  EXPECT_EQ(order.num_keys(), 0) << "nothing waits or runs: nothing is owed";
}

TEST_F(FairOrderTest, ARequestOfManyChoicesStandsBehindAnotherOfTheSameKeyAsOne) {
  Group(1, 128, "k");
  EXPECT_THAT(Peek(2), ElementsAre(1, 2));
  for (int i = 0; i < 64; ++i) TakeNext();
  Add(1001, "k");
  EXPECT_EQ(TakeNext(), 1001u);
  Add(1002, "k");
  Group(2001, 3, "k");
  EXPECT_THAT(Peek(5), ElementsAre(1002, 2001, 65, 2002, 66));
}

TEST_F(FairOrderTest, PriorityIsStrict) {
  Add(1, "a", 10, 5);
  Add(2, "b", 10, -1);
  Add(3, "a", 10, 0);
  Add(4, "b", 10, -1);
  EXPECT_THAT(Peek(4), ElementsAre(2, 4, 3, 1));
  EXPECT_THAT(TakeAll(), ElementsAre(2, 4, 3, 1));
}

TEST_F(FairOrderTest, AWorsePriorityIsServedOnceInItsDistanceTimesTheAging) {
  const FairOrder::Options options;
  for (uint64_t id = 1; id <= 1000; ++id) Add(id);
  for (uint64_t id = 2001; id <= 2003; ++id) Add(id, "", 10, 3);
  std::vector<Duration> served;
  const TimePoint begin = now_;
  for (int i = 0; i < 100; ++i) {
    now_ += options.aging / 4;
    const std::vector<uint64_t> peeked = Peek(2);
    const uint64_t id = TakeNext();
    EXPECT_EQ(id, peeked[0]);
    if (id > 2000) {
      served.push_back(now_ - begin);
      EXPECT_LT(peeked[1], 2000u) << "one, not all of them";
    }
  }
  EXPECT_THAT(served, ElementsAre(3 * options.aging, 6 * options.aging, 9 * options.aging));
}

TEST_F(FairOrderTest, AgingIsBounded) {
  const FairOrder::Options options;
  Add(1, "", 10, options.max_aging_levels + 1);
  now_ += 1000 * options.aging;
  Add(2);
  EXPECT_THAT(Peek(2), ElementsAre(2, 1));
  order_.Forget(Id(1));
  Add(3, "", 10, options.max_aging_levels);
  for (int half = 1; half < 2 * options.max_aging_levels; ++half) {
    now_ += options.aging / 2;
    Add(static_cast<uint64_t>(100 + half));
    EXPECT_NE(TakeNext(), 3u) << half;
  }
  now_ += options.aging / 2;
  EXPECT_EQ(TakeNext(), 3u) << "just in reach";
}

TEST_F(FairOrderTest, PreemptedOnesComeFirstInTheOrderInWhichTheyRan) {
  for (uint64_t id : {1, 2, 3, 4}) {
    Add(id);
    now_ += kSecond;
  }
  Add(9, "", 10, -1);
  for (int i = 0; i < 4; ++i) {
    TakeNext();
    now_ += kSecond;
  }
  order_.Return(Id(2), 15, FairOrder::ComesBack::kPreempted, now_);
  order_.Return(Id(1), 15, FairOrder::ComesBack::kPreempted, now_);
  Add(10, "", 10, -1);
  EXPECT_THAT(Peek(9), ElementsAre(10, 1, 2, 4)) << "but not before a better priority";
  EXPECT_EQ(order_.waiting().tokens, 10 + 15 + 15 + 10);
  EXPECT_THAT(TakeAll(), ElementsAre(10, 1, 2, 4));
}

TEST_F(FairOrderTest, DisplacedOnesComeInTheirTurnInFrontOfTheirGroup) {
  Group(1, 4, "k");
  Add(11, "other");
  Add(12, "other");
  TakeNext();
  TakeNext();  // 11: the other's turn
  TakeNext();
  order_.Return(Id(2), 12, FairOrder::ComesBack::kDisplaced, now_);
  EXPECT_EQ(order_.StandingOf(Id(2)).displaced, 1);
  EXPECT_THAT(Peek(9), ElementsAre(2, 12, 3, 4));
}

TEST_F(FairOrderTest, ForgettingTakesOutOfTheMiddle) {
  Group(1, 3, "a");
  Add(11, "b");
  order_.Forget(Id(2));
  order_.Forget(Id(77));
  EXPECT_THAT(Peek(9), ElementsAre(1, 11, 3));
  order_.Forget(Id(1));
  order_.Forget(Id(3));
  EXPECT_FALSE(order_.Knows(Id(1)));
  EXPECT_THAT(Peek(9), ElementsAre(11));
}

TEST_F(FairOrderTest, SaysWhatIsAheadOfANewcomer) {
  const auto ahead = [&](int32_t priority, std::string_view key) {
    const FairOrder::Work work = order_.AheadOf(priority, key);
    return std::pair(work.sequences, work.tokens);
  };
  EXPECT_EQ(ahead(0, "a"), std::pair(int64_t{0}, int64_t{0}));
  for (uint64_t id : {1, 2, 3}) Add(id, "a", 100);
  Group(11, 50, "a", 10);
  for (uint64_t id = 101; id < 201; ++id) Add(id, "b", 5);
  // Of its own key three and one choice of the fourth; of the other as much.
  EXPECT_EQ(ahead(0, "a"), std::pair(int64_t{4 + 4}, int64_t{310 + 310}));
  EXPECT_EQ(ahead(0, "c"), std::pair(int64_t{0}, int64_t{0})) << "first of its key: it is next";
  EXPECT_EQ(ahead(1, "c"), std::pair(int64_t{3 + 50 + 100}, int64_t{300 + 500 + 500}));
}

}  // namespace
}  // namespace sheaf

// What a worker does next to hold what it was asked to hold, step by step and by hand.

#include "worker/holdings/holding_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/exchange/test_seed.h"
#include "tests/worker/test_experts.h"

namespace sheaf {
namespace {

using Kind = HoldingAction::Kind;
using Verdict = HoldingPlan::Verdict;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;

class HoldingPlanTest : public testing::Test {
 protected:
  static HoldingPlanOptions Options(uint64_t memory_bytes = 0) {
    HoldingPlanOptions options;
    options.num_layers = kTestLayers;
    options.num_experts = kTestExperts;
    options.memory_bytes = memory_bytes;
    options.expert_bytes = kTestExpertBytes;
    options.expert_file_bytes = kTestExpertBytes;
    return options;
  }
  static HoldRequest Request(uint64_t number, std::vector<LayerExpert> experts,
                             size_t num_urgent = 0, uint64_t rate = 0) {
    return {number, std::move(experts), num_urgent, rate};
  }
  // The next action is a load; it succeeds.
  static LayerExpert LoadNext(HoldingPlan& plan, TimePoint now) {
    HoldingAction action = plan.Next(now);
    if (action.kind == Kind::kAnnounce) action = plan.Next(now);
    EXPECT_EQ(action.kind, Kind::kLoad);
    if (action.kind != Kind::kLoad) return Pair(-1, -1);
    EXPECT_EQ(plan.Loaded(action.experts[0], kTestExpertBytes), Verdict::kKeep);
    return action.experts[0];
  }
  // Loads all, everything is seen; until there is nothing to do.
  static void Settle(HoldingPlan& plan, TimePoint now) {
    for (;;) {
      const HoldingAction action = plan.Next(now);
      switch (action.kind) {
        case Kind::kLoad:
          plan.Loaded(action.experts[0], kTestExpertBytes);
          break;
        case Kind::kAnnounce:
          plan.Seen(action.holdings.number);
          break;
        case Kind::kDrop:
          plan.Freed(action.experts.size() * kTestExpertBytes);
          break;
        case Kind::kRefuse:
          break;
        case Kind::kWait:
          return;
      }
    }
  }
  TimePoint now_{seconds(100)};
};

TEST_F(HoldingPlanTest, LoadsInTheOrderAskedFor) {
  HoldingPlan plan(Options());
  plan.Want(Request(1, {Pair(2, 3), Pair(1, 0), Pair(1, 7)}));
  EXPECT_EQ(plan.left_bytes(), 3 * kTestExpertBytes);
  EXPECT_EQ(LoadNext(plan, now_), Pair(2, 3));
  EXPECT_EQ(LoadNext(plan, now_), Pair(1, 0));
  EXPECT_EQ(LoadNext(plan, now_), Pair(1, 7));
  const HoldingAction action = plan.Next(now_);
  ASSERT_EQ(action.kind, Kind::kAnnounce) << "all is done: no reason to wait";
  EXPECT_EQ(action.holdings.count(), 3);
  EXPECT_EQ(plan.Next(now_).kind, Kind::kWait);
  EXPECT_TRUE(plan.quiet());
  EXPECT_EQ(plan.left_bytes(), 0u);
}

TEST_F(HoldingPlanTest, AnnouncesTenTimesASecondButWhatIsUrgentAtOnce) {
  HoldingPlan plan(Options());
  plan.Want(Request(1, Pairs(1, 0, 8), 1));
  plan.Loaded(plan.Next(now_).experts[0], kTestExpertBytes);
  HoldingAction action = plan.Next(now_);
  ASSERT_EQ(action.kind, Kind::kAnnounce) << "it is waited for";
  EXPECT_EQ(action.holdings.number, 2u);
  for (int i = 0; i < 3; ++i) {
    now_ += milliseconds(20);
    action = plan.Next(now_);
    ASSERT_EQ(action.kind, Kind::kLoad);
    plan.Loaded(action.experts[0], kTestExpertBytes);
  }
  now_ += milliseconds(40);
  action = plan.Next(now_);
  ASSERT_EQ(action.kind, Kind::kAnnounce);
  EXPECT_EQ(action.holdings.number, 3u);
  EXPECT_EQ(action.holdings.count(), 4);
}

TEST_F(HoldingPlanTest, TheCeilingHoldsForWhatNobodyWaitsFor) {
  HoldingPlan plan(Options());
  // One of 1,000 bytes every 100 ms.
  plan.Want(Request(1, Pairs(1, 0, 4), 2, 10 * kTestExpertBytes));
  LoadNext(plan, now_);
  LoadNext(plan, now_);
  LoadNext(plan, now_);
  HoldingAction action = plan.Next(now_);
  if (action.kind == Kind::kAnnounce) action = plan.Next(now_);
  ASSERT_EQ(action.kind, Kind::kWait);
  EXPECT_EQ(action.until, now_ + milliseconds(100));
  now_ += milliseconds(99);
  EXPECT_EQ(plan.Next(now_).kind, Kind::kWait);
  now_ += milliseconds(1);
  EXPECT_EQ(LoadNext(plan, now_), Pair(1, 3));
}

TEST_F(HoldingPlanTest, DropsOnlyWhatEveryLinkHasSeenGoing) {
  HoldingPlan plan(Options());
  plan.Want(Request(1, Pairs(1, 0, 2)));
  Settle(plan, now_);
  plan.Want(Request(2, {Pair(1, 1)}));
  HoldingAction action = plan.Next(now_);
  ASSERT_EQ(action.kind, Kind::kAnnounce);
  EXPECT_FALSE(action.holdings.Has(LayerId(1), ExpertId(0)));
  const uint64_t number = action.holdings.number;
  plan.Seen(number - 1);
  EXPECT_EQ(plan.Next(now_).kind, Kind::kWait);
  EXPECT_FALSE(plan.quiet());
  plan.Seen(number);
  action = plan.Next(now_);
  ASSERT_EQ(action.kind, Kind::kDrop);
  EXPECT_THAT(action.experts, ElementsAre(Pair(1, 0)));
  EXPECT_FALSE(plan.quiet()) << "a job may still read it";
  plan.Freed(kTestExpertBytes);
  EXPECT_TRUE(plan.quiet());
}

TEST_F(HoldingPlanTest, ALinkThatNeverSeesItHoldsUpADropForABoundedTime) {
  HoldingPlan plan(Options());
  plan.Want(Request(1, {Pair(1, 0)}));
  Settle(plan, now_);
  plan.Want(Request(2, {}));
  EXPECT_EQ(plan.Next(now_).kind, Kind::kAnnounce);
  const HoldingAction wait = plan.Next(now_);
  EXPECT_EQ(wait.until, now_ + seconds(10));
  EXPECT_EQ(plan.Next(now_ + seconds(10)).kind, Kind::kDrop);
}

TEST_F(HoldingPlanTest, MemoryIsABoundThatDropsMakeRoomIn) {
  HoldingPlan plan(Options(2 * kTestExpertBytes + 500));
  plan.Want(Request(1, Pairs(1, 0, 2)));
  Settle(plan, now_);
  plan.Want(Request(2, {Pair(1, 2), Pair(1, 1)}));
  HoldingAction action = plan.Next(now_);
  ASSERT_EQ(action.kind, Kind::kAnnounce);
  EXPECT_EQ(plan.Next(now_).kind, Kind::kWait) << "no room before the old one has gone";
  plan.Seen(action.holdings.number);
  EXPECT_EQ(plan.Next(now_).kind, Kind::kDrop);
  EXPECT_EQ(plan.Next(now_).kind, Kind::kWait) << "a job may still read it";
  plan.Freed(kTestExpertBytes);
  EXPECT_EQ(LoadNext(plan, now_), Pair(1, 2));
}

TEST_F(HoldingPlanTest, WhatCannotFitIsRefusedAndTheRestGoesOn) {
  HoldingPlan plan(Options(2 * kTestExpertBytes));
  plan.Want(Request(7, Pairs(1, 0, 3)));
  LoadNext(plan, now_);
  LoadNext(plan, now_);
  HoldingAction action = plan.Next(now_);
  if (action.kind == Kind::kAnnounce) action = plan.Next(now_);
  ASSERT_EQ(action.kind, Kind::kRefuse);
  EXPECT_EQ(action.number, 7u);
  EXPECT_THAT(action.experts, ElementsAre(Pair(1, 2)));
  Settle(plan, now_);
  EXPECT_TRUE(plan.quiet());
  EXPECT_EQ(plan.announced().count(), 2);
}

TEST_F(HoldingPlanTest, AnExpertLargerThanWasToldDoesNotBreakTheBound) {
  HoldingPlan plan(Options(2 * kTestExpertBytes));
  plan.Want(Request(1, Pairs(1, 0, 2)));
  plan.Loaded(plan.Next(now_).experts[0], 1500);
  HoldingAction action = plan.Next(now_);
  if (action.kind == Kind::kAnnounce) action = plan.Next(now_);
  EXPECT_EQ(action.kind, Kind::kRefuse) << "only 500 bytes are left";
  plan.Want(Request(2, {Pair(2, 0)}));
  Settle(plan, now_);
  plan.Freed(500);  // the large one has gone
  plan.Want(Request(3, {Pair(2, 1), Pair(2, 0)}));
  action = plan.Next(now_);
  ASSERT_EQ(action.kind, Kind::kLoad);
  EXPECT_EQ(plan.Loaded(action.experts[0], 1500), Verdict::kNoRoom);
  EXPECT_TRUE(plan.quiet());
}

TEST_F(HoldingPlanTest, ALaterHoldReplacesOneThatIsBeingCarriedOut) {
  HoldingPlan plan(Options());
  plan.Want(Request(1, Pairs(1, 0, 4)));
  EXPECT_EQ(LoadNext(plan, now_), Pair(1, 0));
  HoldingAction loading = plan.Next(now_);
  if (loading.kind == Kind::kAnnounce) loading = plan.Next(now_);
  ASSERT_EQ(loading.kind, Kind::kLoad);
  plan.Want(Request(2, Pairs(2, 0, 2)));
  EXPECT_EQ(plan.Loaded(loading.experts[0], kTestExpertBytes), Verdict::kNotWanted);
  Settle(plan, now_);
  EXPECT_EQ(plan.announced().List(), Pairs(2, 0, 2));
  EXPECT_TRUE(plan.quiet());
}

TEST_F(HoldingPlanTest, WhatIsWantedAgainBeforeItWentIsAnnouncedAgainWithoutALoad) {
  HoldingPlan plan(Options());
  plan.Want(Request(1, {Pair(1, 0)}));
  Settle(plan, now_);
  plan.Want(Request(2, {}));
  const HoldingAction gone = plan.Next(now_);
  plan.Want(Request(3, {Pair(1, 0)}));
  const HoldingAction back = plan.Next(now_);
  ASSERT_EQ(back.kind, Kind::kAnnounce);
  EXPECT_EQ(back.holdings.number, gone.holdings.number + 1);
  EXPECT_EQ(back.holdings.count(), 1);
  plan.Seen(back.holdings.number);
  EXPECT_EQ(plan.Next(now_ + seconds(20)).kind, Kind::kWait);
  EXPECT_TRUE(plan.quiet());
}

TEST_F(HoldingPlanTest, AnErrorConcernsOneExpertAndTheNextHoldTriesItAgain) {
  HoldingPlan plan(Options());
  plan.Want(Request(1, Pairs(1, 0, 2)));
  plan.LoadFailed(plan.Next(now_).experts[0]);
  EXPECT_EQ(LoadNext(plan, now_), Pair(1, 1));
  Settle(plan, now_);
  EXPECT_TRUE(plan.quiet());
  plan.Want(Request(2, Pairs(1, 0, 2)));
  EXPECT_EQ(LoadNext(plan, now_), Pair(1, 0));
}

TEST_F(HoldingPlanTest, ReloadLoadsBesideTheOldOneWhereThereIsRoom) {
  HoldingPlan plan(Options());
  plan.Want(Request(1, {Pair(1, 0)}));
  Settle(plan, now_);
  const uint64_t number = plan.announced().number;
  plan.Reload(Pair(1, 0));
  plan.Reload(Pair(1, 0));
  EXPECT_EQ(LoadNext(plan, now_), Pair(1, 0));
  EXPECT_FALSE(plan.quiet()) << "the old one may still be read";
  plan.Freed(kTestExpertBytes);
  EXPECT_EQ(plan.Next(now_).kind, Kind::kWait);
  EXPECT_TRUE(plan.quiet());
  EXPECT_EQ(plan.announced().number, number);
}

TEST_F(HoldingPlanTest, AReloadUnderWayIsNotBegunTwice) {
  HoldingPlan plan(Options());
  plan.Want(Request(1, {Pair(1, 0)}));
  Settle(plan, now_);
  plan.Reload(Pair(1, 0));
  ASSERT_EQ(plan.Next(now_).kind, Kind::kLoad);
  plan.Reload(Pair(1, 0));
  EXPECT_EQ(plan.Next(now_).kind, Kind::kWait);
  EXPECT_EQ(plan.Loaded(Pair(1, 0), kTestExpertBytes), Verdict::kKeep);
}

TEST_F(HoldingPlanTest, ReloadWithoutRoomGoesFirstAndComesBack) {
  HoldingPlan plan(Options(kTestExpertBytes));
  plan.Want(Request(1, {Pair(1, 0)}));
  Settle(plan, now_);
  plan.Reload(Pair(1, 0));
  const HoldingAction gone = plan.Next(now_);
  ASSERT_EQ(gone.kind, Kind::kAnnounce);
  EXPECT_EQ(gone.holdings.count(), 0);
  plan.Want(Request(2, {Pair(1, 0)}));
  EXPECT_EQ(plan.Next(now_).kind, Kind::kWait) << "its bytes are wrong: it does not come back so";
  plan.Seen(gone.holdings.number);
  EXPECT_EQ(plan.Next(now_).kind, Kind::kDrop);
  plan.Freed(kTestExpertBytes);
  EXPECT_EQ(LoadNext(plan, now_), Pair(1, 0));
  Settle(plan, now_);
  EXPECT_EQ(plan.announced().count(), 1);
}

TEST_F(HoldingPlanTest, AReloadThatFailsTakesTheWrongOneOut) {
  HoldingPlan plan(Options());
  plan.Want(Request(1, Pairs(1, 0, 2)));
  Settle(plan, now_);
  plan.Reload(Pair(1, 0));
  plan.LoadFailed(plan.Next(now_).experts[0]);
  Settle(plan, now_);
  EXPECT_EQ(plan.announced().List(), Pairs(1, 1, 2));
  EXPECT_TRUE(plan.quiet());
}

// Anything may be asked for at any moment. What must always hold: the memory bound; announced is
// held; nothing goes before it was seen going; in the end it is what was asked for last.
TEST_F(HoldingPlanTest, HoldsItsPromisesWhateverHappens) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto chance = [&](int one_in) { return random() % static_cast<uint64_t>(one_in) == 0; };
  for (int round = 0; round < 300; ++round) {
    HoldingPlanOptions options = Options();
    options.seen_patience = std::chrono::hours(1);
    const uint64_t bound = chance(2) ? 0 : (3 + random() % 6) * kTestExpertBytes;
    options.memory_bytes = bound;
    HoldingPlan plan(options);
    std::map<LayerExpert, size_t> store;
    std::vector<LayerExpert> loading;
    std::map<LayerExpert, uint64_t> gone_at;  // first announcement without it
    uint64_t announced = 1, seen = 0, hold = 0, going = 0;
    HoldRequest last;
    Holdings shown(kTestLayers, kTestExperts);
    const auto step = [&](bool calm) {
      if (!calm && chance(8)) {
        std::vector<LayerExpert> wanted = Pairs(1, 0, kTestExperts);
        const auto more = Pairs(2, 0, kTestExperts);
        wanted.insert(wanted.end(), more.begin(), more.end());
        std::shuffle(wanted.begin(), wanted.end(), random);
        wanted.resize(random() % (bound == 0 ? 16 : bound / kTestExpertBytes + 1));
        last = Request(++hold, wanted, random() % (wanted.size() + 1),
                       chance(3) ? 50 * kTestExpertBytes : 0);
        plan.Want(last);
      }
      if (!calm && chance(12)) plan.Reload(Pair(1, static_cast<int>(random() % kTestExperts)));
      if (!loading.empty() && (calm || chance(2))) {
        const LayerExpert pair = loading.back();
        loading.pop_back();
        if (!calm && chance(10)) {
          plan.LoadFailed(pair);
        } else if (plan.Loaded(pair, kTestExpertBytes) == Verdict::kKeep) {
          if (store.count(pair) != 0) going += kTestExpertBytes;
          store[pair] = kTestExpertBytes;
        }
      }
      if (calm || chance(3)) plan.Seen(seen = announced);
      if (going > 0 && (calm || chance(2))) {
        plan.Freed(kTestExpertBytes);
        going -= kTestExpertBytes;
      }
      now_ += milliseconds(calm ? 50 : random() % 30);
      const HoldingAction action = plan.Next(now_);
      if (action.kind == Kind::kLoad) loading.push_back(action.experts[0]);
      if (action.kind == Kind::kAnnounce) {
        ASSERT_EQ(action.holdings.number, announced + 1);
        announced = action.holdings.number;
        for (const LayerExpert& pair : shown.List()) {
          if (!action.holdings.Has(pair.layer, pair.expert)) gone_at[pair] = announced;
        }
        shown = action.holdings;
        for (const LayerExpert& pair : shown.List()) ASSERT_EQ(store.count(pair), 1u);
      }
      if (action.kind == Kind::kDrop) {
        for (const LayerExpert& pair : action.experts) {
          ASSERT_EQ(store.erase(pair), 1u);
          ASSERT_FALSE(shown.Has(pair.layer, pair.expert));
          if (gone_at.count(pair) != 0) {
            ASSERT_LE(gone_at[pair], seen);
          }
          going += kTestExpertBytes;
        }
      }
      if (bound != 0) {
        ASSERT_LE((store.size() + loading.size()) * kTestExpertBytes + going, bound);
      }
    };
    for (int i = 0; i < 400; ++i) {
      step(false);
      if (HasFatalFailure()) return;
    }
    plan.Want(last = Request(++hold, last.experts, 0, 0));
    for (int i = 0; i < 200; ++i) {
      step(true);
      if (HasFatalFailure()) return;
    }
    ASSERT_TRUE(plan.quiet());
    std::sort(last.experts.begin(), last.experts.end());
    ASSERT_EQ(plan.announced().List(), last.experts);
    ASSERT_EQ(store.size(), last.experts.size());
  }
}

}  // namespace
}  // namespace sheaf

// What workers are told next: loads before drops, and never a last holder's drop.

#include "coordinator/moves.h"

#include <gtest/gtest.h>

#include <random>

namespace sheaf {
namespace {

ExpertSet Set(size_t size, std::initializer_list<size_t> experts) {
  ExpertSet set(size);
  for (const size_t i : experts) set.Add(i);
  return set;
}

TEST(Moves, ADropWaitsForTheAnnouncement) {
  const size_t n = 4;
  ExpertSet held0 = Set(n, {0, 1, 2, 3});
  ExpertSet held1 = Set(n, {});
  const ExpertSet target0 = Set(n, {0, 1});
  const ExpertSet target1 = Set(n, {2, 3});
  std::vector<MoveWorker> workers = {{true, 0, &held0, &held0, &target0},
                                     {true, 0, &held1, &held1, &target1}};
  std::vector<NextHold> next = PlanMoves(n, workers, {});
  EXPECT_EQ(next[0].experts, held0);
  EXPECT_EQ(next[1].experts, target1);
  EXPECT_TRUE(next[1].urgent.empty());  // worker 0 still serves them
  held1 = Set(n, {2});
  next = PlanMoves(n, workers, {});
  EXPECT_EQ(next[0].experts, Set(n, {0, 1, 3}));
}

TEST(Moves, WhatAHolderMayStillDropDoesNotCount) {
  const size_t n = 2;
  const ExpertSet held0 = Set(n, {0});
  const ExpertSet held1 = Set(n, {0});
  const ExpertSet none = Set(n, {});
  const ExpertSet target1 = Set(n, {0});
  // Worker 1 was told to drop it, and then to keep it.
  std::vector<MoveWorker> workers = {{true, 0, &held0, &held0, &none},
                                     {true, 0, &held1, &none, &target1}};
  EXPECT_EQ(PlanMoves(n, workers, {})[0].experts, held0);
  workers[1].certain = &held1;
  EXPECT_EQ(PlanMoves(n, workers, {})[0].experts, none);
}

TEST(Moves, OneThatLeavesIsNoHolder) {
  const size_t n = 1;
  const ExpertSet held = Set(n, {0});
  const ExpertSet none = Set(n, {});
  const std::vector<MoveWorker> workers = {{true, 0, &held, &held, &none},
                                           {false, 0, &held, &held, &held}};
  EXPECT_EQ(PlanMoves(n, workers, {})[0].experts, held);
}

TEST(Moves, WaitedForFirstThenOrphansThenTheRest) {
  const size_t n = 6;
  const ExpertSet none = Set(n, {});
  const ExpertSet target = Set(n, {0, 1, 2, 3});
  const ExpertSet other = Set(n, {0});
  const std::vector<MoveWorker> workers = {{true, 0, &none, &none, &target},
                                           {true, 0, &other, &other, &other}};
  const std::vector<size_t> waited = {3, 5};
  const NextHold next = PlanMoves(n, workers, waited)[0];
  EXPECT_EQ(next.urgent, (std::vector<size_t>{3, 1, 2}));
  EXPECT_EQ(next.experts, target);
}

TEST(Moves, MemoryBoundsWhatIsLoadedBesideWhatIsKept) {
  const size_t n = 6;
  const ExpertSet held = Set(n, {0, 1});
  const ExpertSet target = Set(n, {2, 3, 4});
  const ExpertSet none = Set(n, {});
  const ExpertSet other = Set(n, {0, 1});
  const std::vector<MoveWorker> workers = {{true, 3, &held, &held, &target},
                                           {true, 0, &none, &none, &other}};
  const NextHold next = PlanMoves(n, workers, {})[0];
  EXPECT_EQ(next.experts, Set(n, {0, 1, 2}));
  EXPECT_EQ(next.postponed, 2);
}

// Random plans carried out by workers that are slow and take their time: no expert that somebody
// held is ever without a holder, memory is never exceeded, and in the end all targets are held.
TEST(Moves, EveryPlanIsCarriedOutAndNothingIsLostOnTheWay) {
  std::mt19937 random(7);
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE(round);
    const auto n = static_cast<size_t>(pick(1, 30));
    const auto count = static_cast<size_t>(pick(2, 6));
    std::vector<ExpertSet> held(count, ExpertSet(n));
    std::vector<ExpertSet> target(count, ExpertSet(n));
    for (size_t i = 0; i < n; ++i) {
      held[static_cast<size_t>(pick(0, static_cast<int>(count) - 1))].Add(i);
      target[static_cast<size_t>(pick(0, static_cast<int>(count) - 1))].Add(i);
      if (pick(0, 1) == 0) target[static_cast<size_t>(pick(0, static_cast<int>(count) - 1))].Add(i);
    }
    std::vector<int64_t> slots;
    for (size_t w = 0; w < count; ++w) {
      // One place to move things through.
      slots.push_back(std::max(held[w].count(), target[w].count()) + 1);
    }
    std::vector<std::vector<ExpertSet>> told(count);  // not carried out yet
    bool done = false;
    for (int step = 0; step < 4000 && !done; ++step) {
      std::vector<ExpertSet> certain = held;
      for (size_t w = 0; w < count; ++w) {
        for (const ExpertSet& hold : told[w]) certain[w].KeepOnly(hold);
      }
      std::vector<MoveWorker> workers;
      for (size_t w = 0; w < count; ++w) {
        workers.push_back({true, slots[w], &held[w], &certain[w], &target[w]});
      }
      const std::vector<NextHold> next = PlanMoves(n, workers, {});
      for (size_t w = 0; w < count; ++w) {
        EXPECT_LE(next[w].experts.count(), slots[w]);
        if (told[w].size() < 3 && pick(0, 1) == 0) told[w].push_back(next[w].experts);
      }
      const auto w = static_cast<size_t>(pick(0, static_cast<int>(count) - 1));
      if (!told[w].empty()) {
        // Carries out a part: drops all that it may, loads one.
        const ExpertSet hold = told[w].front();
        held[w].KeepOnly(hold);
        const ExpertSet missing = Minus(hold, held[w]);
        if (missing.empty() || told[w].size() > 1) told[w].erase(told[w].begin());
        bool one = false;
        missing.ForEach([&](size_t i) {
          if (!one && held[w].count() < slots[w]) held[w].Add(i);
          one = true;
        });
      }
      ExpertSet all(n);
      done = true;
      for (size_t at = 0; at < count; ++at) {
        all.AddAll(held[at]);
        done = done && held[at] == target[at];
      }
      ASSERT_EQ(all.count(), static_cast<int64_t>(n)) << "step " << step;
      if (pick(0, 199) == 0) {  // a new plan in between
        for (size_t i = 0; i < n; ++i) {
          const auto from = static_cast<size_t>(pick(0, static_cast<int>(count) - 1));
          const auto to = static_cast<size_t>(pick(0, static_cast<int>(count) - 1));
          if (!target[from].Has(i) || target[to].Has(i)) continue;
          if (target[to].count() + 1 >= slots[to]) continue;
          target[from].Remove(i);
          target[to].Add(i);
        }
      }
    }
    EXPECT_TRUE(done);
  }
}

}  // namespace
}  // namespace sheaf

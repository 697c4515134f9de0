// Plans by hand, and properties that hold for every pool.

#include "coordinator/placement_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>

namespace sheaf {
namespace {

struct Pool {
  ExpertGrid grid;
  std::vector<PlanWorker> workers;
  std::vector<ExpertSet> held;
  std::vector<ExpertSet> refused;
  double replicas = 1;
  double tolerance = 0.1;
  std::vector<double> load;

  Pool(ExpertGrid shape, int count)
      : grid(shape),
        workers(static_cast<size_t>(count)),
        held(static_cast<size_t>(count), ExpertSet(shape.size())),
        refused(held) {
    for (int w = 0; w < count; ++w) workers[static_cast<size_t>(w)].worker = WorkerId(w);
  }
  PlanRequest Request() {
    PlanRequest request;
    request.grid = grid;
    request.expert_bytes = 100;
    request.replicas = replicas;
    request.tolerance = tolerance;
    request.load = load;
    request.workers = workers;
    for (size_t w = 0; w < workers.size(); ++w) {
      request.workers[w].held = &held[w];
      request.workers[w].refused = &refused[w];
    }
    return request;
  }
  PlacementPlan Plan() { return PlanPlacement(Request()); }
  void Add() {
    workers.push_back({});
    workers.back().worker = WorkerId(static_cast<int32_t>(workers.size()) - 1);
    held.emplace_back(grid.size());
    refused.emplace_back(grid.size());
  }
};

int InLayer(const ExpertGrid& grid, const ExpertSet& set, int layer) {
  int n = 0;
  for (int e = 0; e < grid.num_experts; ++e) n += set.Has(grid.Index(layer, e));
  return n;
}

std::vector<int> Holders(const Pool& pool, const PlacementPlan& plan) {
  std::vector<int> holders(pool.grid.size(), 0);
  for (const ExpertSet& target : plan.targets) {
    target.ForEach([&](size_t i) { ++holders[i]; });
  }
  return holders;
}

TEST(PlacementPlan, FreshPoolGetsRangesThatDifferByOneAndTakeTurns) {
  Pool pool({4, 1, 7}, 3);
  const PlacementPlan plan = pool.Plan();
  const int wanted[3][3] = {{3, 2, 2}, {2, 3, 2}, {2, 2, 3}};
  for (int layer = 1; layer < 4; ++layer) {
    int next = 0;
    for (int w = 0; w < 3; ++w) {
      EXPECT_EQ(InLayer(pool.grid, plan.targets[static_cast<size_t>(w)], layer),
                wanted[layer - 1][w]);
      for (int k = 0; k < wanted[layer - 1][w]; ++k, ++next) {
        EXPECT_TRUE(plan.targets[static_cast<size_t>(w)].Has(pool.grid.Index(layer, next)));
      }
    }
  }
  EXPECT_EQ(plan.moves, 21);
  EXPECT_EQ(plan.unplaced, 0);
}

TEST(PlacementPlan, TwoCopiesAreOnDifferentWorkersAndBalanced) {
  Pool pool({12, 2, 20}, 5);
  pool.replicas = 2;
  const PlacementPlan plan = pool.Plan();
  for (const int holders : Holders(pool, plan)) EXPECT_EQ(holders, 2);
  for (const ExpertSet& target : plan.targets) {
    for (int layer = 2; layer < 12; ++layer) EXPECT_EQ(InLayer(pool.grid, target, layer), 8);
  }
}

TEST(PlacementPlan, AFractionGivesTheHottestOneMore) {
  Pool pool({3, 0, 10}, 4);
  pool.replicas = 1.2;
  pool.load.assign(pool.grid.size(), 10);
  for (int layer = 0; layer < 3; ++layer) {
    pool.load[pool.grid.Index(layer, 3)] = 500;
    pool.load[pool.grid.Index(layer, 8)] = 400;
  }
  const std::vector<int> holders = Holders(pool, pool.Plan());
  for (int layer = 0; layer < 3; ++layer) {
    for (int e = 0; e < 10; ++e) {
      EXPECT_EQ(holders[pool.grid.Index(layer, e)], e == 3 || e == 8 ? 2 : 1) << layer << " " << e;
    }
  }
}

TEST(PlacementPlan, SlowWorkersGetLess) {
  Pool pool({2, 0, 30}, 2);
  pool.workers[0].seconds_per_unit = 1e-3;
  pool.workers[1].seconds_per_unit = 2e-3;
  const PlacementPlan plan = pool.Plan();
  for (int layer = 0; layer < 2; ++layer) {
    EXPECT_NEAR(InLayer(pool.grid, plan.targets[0], layer), 20, 1);
  }
}

TEST(PlacementPlan, ALostShareGoesToTheOthersAndNothingElseMoves) {
  Pool pool({10, 0, 24}, 4);
  PlacementPlan plan = pool.Plan();
  for (size_t w = 0; w < 4; ++w) pool.held[w] = plan.targets[w];
  pool.workers[2].takes = false;
  plan = pool.Plan();
  EXPECT_EQ(plan.moves, 60);
  for (const size_t w : {0u, 1u, 3u}) {
    EXPECT_TRUE(Minus(pool.held[w], plan.targets[w]).empty());
    for (int layer = 0; layer < 10; ++layer) {
      EXPECT_EQ(InLayer(pool.grid, plan.targets[w], layer), 8);
    }
  }
}

TEST(PlacementPlan, AJoinMovesItsShareAndNoMore) {
  Pool pool({10, 0, 24}, 3);
  const PlacementPlan before = pool.Plan();
  for (size_t w = 0; w < 3; ++w) pool.held[w] = before.targets[w];
  pool.Add();
  const PlacementPlan plan = pool.Plan();
  EXPECT_EQ(plan.moves, 60);
  EXPECT_EQ(plan.targets[3].count(), 60);
}

TEST(PlacementPlan, ALittleImbalanceIsNotWorthMovesUnlessAsked) {
  Pool pool({1, 0, 60}, 3);
  for (int e = 0; e < 60; ++e) pool.held[e < 22 ? 0 : e < 42 ? 1 : 2].Add(static_cast<size_t>(e));
  EXPECT_EQ(pool.Plan().moves, 0);
  pool.tolerance = 0;
  EXPECT_EQ(pool.Plan().moves, 2);
}

TEST(PlacementPlan, WhatTheMemoryOfAllCannotHoldIsCounted) {
  Pool pool({4, 0, 10}, 2);
  pool.workers[0].memory_bytes = 1500;  // 15 experts
  pool.workers[1].memory_bytes = 2000;  // 20 experts
  const PlacementPlan plan = pool.Plan();
  EXPECT_EQ(plan.targets[0].count(), 15);
  EXPECT_EQ(plan.targets[1].count(), 20);
  EXPECT_EQ(plan.unplaced, 5);
}

TEST(PlacementPlan, FirstCopiesTakeTheMemoryOfFurtherOnes) {
  // Each holds the same half twice over; the other half has no room unless copies go.
  Pool pool({1, 0, 8}, 2);
  for (size_t w = 0; w < 2; ++w) {
    pool.workers[w].memory_bytes = 400;
    for (size_t e = 0; e < 4; ++e) pool.held[w].Add(e);
  }
  pool.replicas = 2;
  const PlacementPlan plan = pool.Plan();
  for (const int holders : Holders(pool, plan)) EXPECT_EQ(holders, 1);
  EXPECT_EQ(plan.unplaced, 0);
  EXPECT_EQ(plan.missing_copies, 8);
}

TEST(PlacementPlan, NobodyTakesNothingIsPlaced) {
  Pool pool({2, 0, 4}, 1);
  pool.workers[0].takes = false;
  EXPECT_EQ(pool.Plan().unplaced, 8);
  Pool empty({2, 0, 4}, 0);
  EXPECT_EQ(empty.Plan().unplaced, 8);
}

TEST(AdoptExperts, GoToWhoHasLeastAndMakesRoom) {
  Pool pool({1, 0, 6}, 2);
  std::vector<ExpertSet> targets(2, ExpertSet(6));
  targets[0].Add(0);
  targets[0].Add(1);
  targets[1].Add(2);
  const std::vector<size_t> orphans = {3, 4};
  EXPECT_EQ(AdoptExperts(pool.Request(), orphans, targets), 0);
  EXPECT_TRUE(targets[1].Has(3));
  EXPECT_EQ(targets[0].count() + targets[1].count(), 5);
  // Full, and all that is there has one holder: no place.
  for (PlanWorker& worker : pool.workers) worker.memory_bytes = 300;
  targets[0].Add(0), targets[1].Add(1);  // 1 twice
  targets[0] = ExpertSet(6), targets[1] = ExpertSet(6);
  for (const size_t i : {0u, 1u, 2u}) targets[0].Add(i);
  for (const size_t i : {2u, 3u, 4u}) targets[1].Add(i);
  const std::vector<size_t> last = {5};
  EXPECT_EQ(AdoptExperts(pool.Request(), last, targets), 0);
  EXPECT_EQ(targets[0].count(), 3);
  EXPECT_EQ(targets[1].count(), 3);
  int copies_of_2 = targets[0].Has(2) + targets[1].Has(2);
  EXPECT_EQ(copies_of_2, 1);
}

// Random pools: memory is kept, experts have as many holders as can be, on different workers;
// layers are balanced where nothing binds; asking again changes nothing.
TEST(PlacementPlan, PropertiesOfRandomPools) {
  std::mt19937 random(20261130);
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    const int dense = pick(0, 2);
    Pool pool({dense + pick(1, 6), dense, pick(1, 40)}, pick(1, 9));
    pool.replicas = 1 + pick(0, 8) * 0.25;
    pool.tolerance = 0;
    const bool bounded = pick(0, 1) == 1;
    const bool used = pick(0, 1) == 1;
    int64_t slots = 0;
    int takers = 0;
    for (size_t w = 0; w < pool.workers.size(); ++w) {
      PlanWorker& worker = pool.workers[w];
      worker.takes = pick(0, 9) > 0;
      takers += worker.takes;
      const int fit = pick(1, 2 * static_cast<int>(pool.grid.size()));
      if (bounded) worker.memory_bytes = static_cast<uint64_t>(fit) * 100 + 50;
      if (worker.takes) slots += fit;
      if (!used) continue;
      int room = bounded ? fit : 1 << 30;
      for (size_t i = 0; i < pool.grid.size() && room > 0; ++i) {
        if (pick(0, 2) == 0) {
          pool.held[w].Add(i);
          --room;
        }
      }
    }
    if (pick(0, 1) == 1) {
      for (size_t i = 0; i < pool.grid.size(); ++i) pool.load.push_back(pick(0, 1000));
    }
    PlacementPlan plan = pool.Plan();
    const std::vector<int> holders = Holders(pool, plan);
    const double copies = std::min<double>(pool.replicas, takers);
    int64_t unplaced = 0;
    int64_t placed = 0;
    for (const int n : holders) {
      unplaced += n == 0;
      placed += n;
      EXPECT_LE(n, static_cast<int>(std::ceil(copies)));
      if (!bounded && takers > 0) {
        EXPECT_GE(n, static_cast<int>(copies));
      }
    }
    EXPECT_EQ(plan.unplaced, unplaced);
    if (takers == 0) continue;
    if (!bounded) {
      EXPECT_EQ(placed, std::llround(copies * static_cast<double>(pool.grid.size())));
    }
    EXPECT_EQ(unplaced,
              bounded ? std::max<int64_t>(0, static_cast<int64_t>(pool.grid.size()) - slots) : 0);
    for (size_t w = 0; w < pool.workers.size(); ++w) {
      if (!pool.workers[w].takes) {
        EXPECT_TRUE(plan.targets[w].empty());
      }
      if (bounded) {
        EXPECT_LE(static_cast<uint64_t>(plan.targets[w].count()) * 100,
                  pool.workers[w].memory_bytes);
      }
    }
    if (!bounded && pool.load.empty() && copies == std::floor(copies)) {
      for (int layer = dense; layer < pool.grid.num_layers; ++layer) {
        int most = 0;
        int least = 1 << 30;
        for (size_t w = 0; w < pool.workers.size(); ++w) {
          if (!pool.workers[w].takes) continue;
          const int n = InLayer(pool.grid, plan.targets[w], layer);
          most = std::max(most, n);
          least = std::min(least, n);
        }
        EXPECT_LE(most - least, 1);
      }
    }
    for (size_t w = 0; w < pool.workers.size(); ++w) pool.held[w] = plan.targets[w];
    const PlacementPlan again = pool.Plan();
    if (!bounded) {
      EXPECT_EQ(again.moves, 0);
    }
  }
}

TEST(PlacementPlan, MovesOnJoinAndLeaveAreWhatIsNeeded) {
  for (const double replicas : {1.0, 2.0}) {
    Pool pool({30, 3, 120}, 8);
    pool.replicas = replicas;
    PlacementPlan plan = pool.Plan();
    const auto all = static_cast<double>(pool.grid.size()) * replicas;
    for (size_t w = 0; w < 8; ++w) pool.held[w] = plan.targets[w];
    pool.Add();
    plan = pool.Plan();
    EXPECT_LE(static_cast<double>(plan.moves), all / 9 * 1.05);
    EXPECT_GE(static_cast<double>(plan.targets[8].count()), all / 9 * 0.9);
    for (size_t w = 0; w < 9; ++w) pool.held[w] = plan.targets[w];
    pool.workers[4].takes = false;
    const auto share = static_cast<double>(plan.targets[4].count());
    plan = pool.Plan();
    EXPECT_LE(static_cast<double>(plan.moves), share * 1.1 + 27);
  }
}

}  // namespace
}  // namespace sheaf

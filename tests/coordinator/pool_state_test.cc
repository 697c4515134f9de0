// The coordinator's rules, one by one, with time moved by hand.

#include "coordinator/pool_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/coordinator/scripted_pool.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

TEST(PoolState, WaitsForTheExpectedAndThenPlansOnce) {
  ScriptedPool pool(ScriptedPool::Options(2));
  ScriptedPool::Worker& first = pool.Join(1);
  EXPECT_EQ(first.id, 0);
  pool.Run(seconds(5));
  EXPECT_TRUE(first.holds.empty());
  EXPECT_THAT(pool.state.Status(pool.now).text(), HasSubstr("1 of 2 have joined"));
  ScriptedPool::Worker& second = pool.Join(2);
  pool.Run(seconds(3));
  EXPECT_EQ(first.held.count(), 15);
  EXPECT_EQ(second.held.count(), 15);
  EXPECT_EQ(pool.Least(), 1);
  EXPECT_EQ(pool.state.counters().plans, 1);
  EXPECT_EQ(first.holds.size(), 1u);
}

TEST(PoolState, AfterItsPatienceItPlansOverThoseWhoAreThere) {
  ScriptedPool pool(ScriptedPool::Options(5));
  pool.Join(1);
  pool.Join(2);
  pool.Run(milliseconds(9900));
  EXPECT_TRUE(pool.state.gathering());
  pool.Run(seconds(3));
  EXPECT_EQ(pool.Least(), 1);
}

TEST(PoolState, ALostShareIsLeftToItsReplacement) {
  auto pool = FullPool(3);
  const Holdings share = pool->workers[1]->held;
  pool->Close(*pool->workers[1]);
  ASSERT_EQ(pool->lost.size(), 1u);
  pool->Run(milliseconds(500));
  ScriptedPool::Worker& replacement = pool->Join(9);
  EXPECT_EQ(replacement.id, 1);
  pool->Run(seconds(4));
  EXPECT_EQ(pool->Least(), 1);
  for (const LayerExpert& one : share.List()) {
    EXPECT_TRUE(replacement.held.Has(one.layer, one.expert));
  }
  EXPECT_EQ(replacement.held.count(), share.count());
  EXPECT_EQ(pool->workers[0]->holds.size(), 1u);  // nobody else was bothered
}

TEST(PoolState, WithoutAReplacementOthersTakeAll) {
  auto pool = FullPool(3);
  pool->Close(*pool->workers[1]);
  pool->Run(milliseconds(1800));
  EXPECT_EQ(pool->Least(), 0);
  pool->Run(seconds(3));
  EXPECT_EQ(pool->Least(), 1);
  EXPECT_EQ(pool->workers[0]->held.count(), 15);
  EXPECT_EQ(pool->workers[2]->held.count(), 15);
}

TEST(PoolState, WhatAStepWaitsForIsAdoptedAtOnceAndFirst) {
  auto pool = FullPool(3);
  const SessionId router = pool->JoinRouter(50);
  const LayerExpert orphan = pool->workers[1]->held.List().back();
  pool->Close(*pool->workers[1]);
  v1::RouterReport report;
  v1::ExpertRange& range = *report.add_orphans();
  range.set_layer(orphan.layer.value());
  range.set_begin(orphan.expert.value());
  range.set_end(orphan.expert.value() + 1);
  pool->Report(router, report);
  int first = 0;
  for (const size_t w : {0u, 2u}) {
    const v1::Hold& hold = pool->workers[w]->holds.back();
    EXPECT_GT(hold.urgent_entries(), 0);
    first += hold.experts(0).layer() == orphan.layer.value() &&
             hold.experts(0).begin() == orphan.expert.value() &&
             hold.experts(0).end() == orphan.expert.value() + 1;
  }
  EXPECT_EQ(first, 1);
  pool->Run(milliseconds(100));
  EXPECT_EQ(pool->HoldersOf(orphan.layer.value(), orphan.expert.value()), 1);
  // The next layers need others: none of them is left to a replacement that may not come.
  pool->Run(milliseconds(400));
  EXPECT_EQ(pool->Least(), 1);
}

TEST(PoolState, WhatFindsNoPlaceStaysWithTheReplacement) {
  ScriptedPool pool(ScriptedPool::Options(2));
  for (uint64_t i = 1; i <= 2; ++i) {
    v1::FromWorker hello = HelloOf(i);
    hello.mutable_hello()->set_memory_bytes(15'000);  // half of the experts
    pool.Join(i, hello);
  }
  pool.Run(seconds(4));
  ASSERT_EQ(pool.Least(), 1);
  const SessionId router = pool.JoinRouter(50);
  const Holdings share = pool.workers[1]->held;
  pool.Close(*pool.workers[1]);
  v1::RouterReport report;
  v1::ExpertRange& range = *report.add_orphans();
  range.set_layer(share.List().front().layer.value());
  range.set_begin(share.List().front().expert.value());
  range.set_end(share.List().front().expert.value() + 1);
  pool.Report(router, report);
  pool.Run(milliseconds(300));
  v1::FromWorker hello = HelloOf(9);
  hello.mutable_hello()->set_memory_bytes(15'000);
  ScriptedPool::Worker& replacement = pool.Join(9, hello);
  pool.Run(milliseconds(500));
  EXPECT_EQ(replacement.held.List(), share.List());
}

TEST(PoolState, OrphansThatSomebodyLoadsAlreadyAreNotLoadedTwice) {
  auto pool = FullPool(2);
  const SessionId router = pool->JoinRouter(50);
  const LayerExpert held = pool->workers[0]->held.List().front();
  v1::RouterReport report;
  v1::ExpertRange& range = *report.add_orphans();
  range.set_layer(held.layer.value());
  range.set_begin(held.expert.value());
  range.set_end(held.expert.value() + 1);
  pool->Report(router, report);
  EXPECT_EQ(pool->workers[1]->holds.size(), 1u);
  // The router cannot reach the holder: then another is needed.
  Link(*pool, report, 0, false);
  Link(*pool, report, 1, true);
  pool->Report(router, report);
  pool->Run(milliseconds(200));
  EXPECT_TRUE(pool->workers[1]->held.Has(held.layer, held.expert));
}

TEST(PoolState, ASpareTakesTheShareAtOnce) {
  ScriptedPool pool(ScriptedPool::Options(3));
  pool.Join(1);
  pool.Join(2);
  v1::FromWorker hello = HelloOf(3);
  hello.mutable_hello()->set_spare(true);
  ScriptedPool::Worker& spare = pool.Join(3, hello);
  pool.Run(seconds(3));
  EXPECT_EQ(spare.held.count(), 0);
  EXPECT_EQ(pool.state.Status(pool.now).workers(2).state(), v1::WorkerStatus::SPARE);
  pool.Close(*pool.workers[0]);
  pool.Run(milliseconds(400));
  EXPECT_EQ(spare.held.count(), 15);
  EXPECT_EQ(pool.Least(), 1);
}

TEST(PoolState, ALeaseEndsTheSilentAndCountsThoseThatWereAlive) {
  auto pool = FullPool(2);
  pool->workers[0]->alive = false;
  pool->Run(milliseconds(1900));
  EXPECT_TRUE(pool->lost.empty());
  pool->Run(milliseconds(300));
  ASSERT_EQ(pool->lost.size(), 1u);
  EXPECT_EQ(pool->lost[0].cause, LossCause::kLease);
  EXPECT_EQ(pool->workers[0]->ended->code(), absl::StatusCode::kAborted);
  // The same process is back: it was alive.
  v1::FromWorker hello = HelloOf(1);
  hello.mutable_hello()->set_holdings(pool->workers[0]->held.Encode());
  EXPECT_EQ(pool->Join(1, hello).id, 0);
  EXPECT_EQ(pool->state.counters().false_evictions, 1);
  pool->Run(seconds(4));
  EXPECT_EQ(pool->Least(), 1);
  EXPECT_EQ(pool->workers[1]->held.count(), 15);
}

TEST(PoolState, ACoordinatorThatWasStoppedJudgesNobody) {
  auto pool = FullPool(2);
  pool->now += seconds(30);
  pool->state.Tick(pool->now, false);
  EXPECT_TRUE(pool->state.TakeActions().empty() || pool->lost.empty());
  EXPECT_EQ(pool->state.roster().size(), 2u);
  // And one with messages that it did not read yet.
  for (int i = 0; i < 100; ++i) {
    pool->now += milliseconds(50);
    pool->state.Tick(pool->now, true);
  }
  EXPECT_EQ(pool->state.roster().size(), 2u);
}

TEST(PoolState, AJoinMovesAShareAndNothingIsUncoveredMeanwhile) {
  auto pool = FullPool(2);
  pool->must_stay_covered = true;
  ScriptedPool::Worker& third = pool->Join(3);
  pool->Run(seconds(5));
  EXPECT_FALSE(pool->lost_coverage);
  EXPECT_GE(third.held.count(), 9);  // 3 or 4 of each layer's 10
  for (const auto& worker : pool->workers) EXPECT_LE(worker->held.count(), 11);
  EXPECT_GT(third.holds.front().max_bytes_per_second(), 0u);  // nobody waits
}

TEST(PoolState, DrainMovesEverythingAndUndrainBrings) {
  auto pool = FullPool(3);
  pool->must_stay_covered = true;
  EXPECT_EQ(pool->state.Drain(WorkerId(9), pool->now).code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(pool->state.Drain(WorkerId(1), pool->now).ok());
  pool->Run(seconds(5));
  EXPECT_FALSE(pool->lost_coverage);
  EXPECT_EQ(pool->workers[1]->held.count(), 0);
  EXPECT_EQ(pool->state.Status(pool->now).workers(1).state(), v1::WorkerStatus::DRAINING);
  ASSERT_TRUE(pool->state.Undrain(WorkerId(1), pool->now).ok());
  pool->Run(seconds(5));
  EXPECT_GE(pool->workers[1]->held.count(), 9);
  EXPECT_FALSE(pool->lost_coverage);
}

TEST(PoolState, LeavingWaitsForTheOthersAndIsDismissed) {
  auto pool = FullPool(3);
  pool->must_stay_covered = true;
  v1::FromWorker leaving;
  leaving.mutable_leaving()->set_reason("asked to stop");
  pool->Say(*pool->workers[1], leaving);
  EXPECT_FALSE(pool->workers[1]->dismissed);
  pool->Run(seconds(4));
  EXPECT_TRUE(pool->workers[1]->dismissed);
  pool->Close(*pool->workers[1]);
  EXPECT_EQ(pool->lost.back().cause, LossCause::kLeft);
  pool->Run(seconds(4));
  EXPECT_FALSE(pool->lost_coverage);
  EXPECT_EQ(pool->Least(), 1);
}

TEST(PoolState, OneThatLeavesStaysWhenWhoWasToTakeOverIsLost) {
  auto pool = FullPool(3);
  ScriptedPool::Worker& leaver = *pool->workers[1];
  const Holdings share = leaver.held;
  v1::FromWorker leaving;
  leaving.mutable_leaving()->set_reason("asked to stop");
  pool->Say(leaver, leaving);
  pool->Close(*pool->workers[2]);
  for (int i = 0; i < 80 && !leaver.dismissed; ++i) pool->Run(milliseconds(50));
  ASSERT_TRUE(leaver.dismissed);
  for (const LayerExpert& one : share.List()) {
    EXPECT_TRUE(pool->workers[0]->held.Has(one.layer, one.expert));
  }
}

TEST(PoolState, WithReplicasALeavingWorkerGoesAtOnce) {
  auto pool = FullPool(3, 2);
  EXPECT_EQ(pool->Least(), 2);
  v1::FromWorker leaving;
  leaving.mutable_leaving()->set_reason("asked to stop");
  pool->Say(*pool->workers[1], leaving);
  pool->Run(milliseconds(100));
  EXPECT_TRUE(pool->workers[1]->dismissed);
}

TEST(PoolState, TheLastWorkerIsDismissedAfterABound) {
  auto pool = FullPool(1);
  v1::FromWorker leaving;
  leaving.mutable_leaving()->set_reason("asked to stop");
  pool->Say(*pool->workers[0], leaving);
  pool->Run(milliseconds(900));
  EXPECT_FALSE(pool->workers[0]->dismissed);
  pool->Run(milliseconds(200));
  EXPECT_TRUE(pool->workers[0]->dismissed);
}

TEST(PoolState, MoreReplicasAreLoadedAndFewerDropped) {
  auto pool = FullPool(3);
  EXPECT_EQ(pool->state.SetReplicas(0.5, pool->now).code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(pool->state.SetReplicas(2, pool->now).ok());
  pool->Run(seconds(5));
  EXPECT_EQ(pool->Least(), 2);
  pool->must_stay_covered = true;
  ASSERT_TRUE(pool->state.SetReplicas(1, pool->now).ok());
  pool->Run(seconds(5));
  EXPECT_FALSE(pool->lost_coverage);
  int64_t held = 0;
  for (const auto& worker : pool->workers) held += worker->held.count();
  EXPECT_EQ(held, 30);
}

TEST(PoolState, ACoordinatorThatStartsOverMovesNothing) {
  auto before = FullPool(3);
  ScriptedPool pool(ScriptedPool::Options(3));
  const SessionId router = pool.JoinRouter(50);
  // They come back in another order, with their ids and what they hold.
  for (const int i : {2, 0, 1}) {
    const ScriptedPool::Worker& old = *before->workers[static_cast<size_t>(i)];
    v1::FromWorker hello = HelloOf(old.instance);
    hello.mutable_hello()->set_preferred_id(old.id);
    hello.mutable_hello()->set_holdings(old.held.Encode());
    EXPECT_EQ(pool.Join(old.instance, hello).id, old.id);
    v1::RouterReport report;
    v1::ExpertRange& range = *report.add_orphans();
    range.set_layer(1);
    range.set_end(10);
    pool.Report(router, report);
    pool.Run(milliseconds(500));
  }
  pool.must_stay_covered = true;
  pool.Run(seconds(5));
  EXPECT_FALSE(pool.lost_coverage);
  EXPECT_EQ(pool.state.counters().moves, 0);
  EXPECT_EQ(pool.views[router].back().workers_size(), 3);
}

TEST(PoolState, WhatCannotBeLoadedGoesElsewhere) {
  ScriptedPool pool(ScriptedPool::Options(2));
  pool.Join(1).loads = false;
  pool.Join(2);
  pool.Run(milliseconds(200));
  for (const v1::ExpertRange& range : pool.workers[0]->holds.back().experts()) {
    for (int e = range.begin(); e < range.end(); ++e) {
      v1::FromWorker message;
      message.mutable_hold_failed()->set_layer(range.layer());
      message.mutable_hold_failed()->set_expert(e);
      message.mutable_hold_failed()->set_permanent(true);
      message.mutable_hold_failed()->set_reason("no memory");
      pool.Say(*pool.workers[0], message);
    }
  }
  pool.Run(seconds(3));
  EXPECT_EQ(pool.workers[1]->held.count(), 30);
  int lines = 0;
  for (const std::string& note : pool.notes) lines += note.find("cannot load layer") != note.npos;
  EXPECT_EQ(lines, 1);
}

TEST(PoolState, SixtyFourWorkersPrintAScreen) {
  ScriptedPool pool(ScriptedPool::Options(64));
  for (uint64_t i = 1; i <= 64; ++i) {
    pool.Join(i);
    if (i % 8 == 0) pool.Run(milliseconds(50));
  }
  pool.Run(seconds(10));
  EXPECT_EQ(pool.Least(), 1);
  EXPECT_LE(pool.notes.size(), 24u);
}

TEST(PoolState, HotExpertsGetTheFurtherCopies) {
  auto pool = FullPool(3);
  const SessionId router = pool->JoinRouter(50);
  v1::RouterReport report;
  for (int layer = 0; layer < 3; ++layer) {
    for (int e = 0; e < 10; ++e) report.add_pairs(e == 7 ? 1000 : 10);
  }
  pool->Report(router, report);
  ASSERT_TRUE(pool->state.SetReplicas(1.1, pool->now).ok());
  pool->Run(seconds(4));
  for (int layer = 1; layer < 4; ++layer) EXPECT_EQ(pool->HoldersOf(layer, 7), 2);
}

// Chaos: joins, losses, drains, replicas at random; whatever happens, once it is quiet every expert
// has its holders, and no drop ever took the last one.
TEST(PoolState, AfterAnyChaosEverythingIsHeld) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto pick = [&](int low, int high) {
      return std::uniform_int_distribution<int>(low, high)(random);
    };
    ScriptedPool pool(ScriptedPool::Options(3, pick(1, 2)));
    uint64_t instance = 0;
    for (int i = 0; i < 3; ++i) pool.Join(++instance);
    pool.Run(seconds(4));
    for (int step = 0; step < 30; ++step) {
      std::vector<ScriptedPool::Worker*> live;
      for (auto& worker : pool.workers) {
        if (worker->alive && !worker->ended) live.push_back(worker.get());
      }
      ScriptedPool::Worker& one =
          *live[static_cast<size_t>(pick(0, static_cast<int>(live.size()) - 1))];
      switch (pick(0, 6)) {
        case 0:
        case 1:
          if (live.size() < 8) pool.Join(++instance);
          break;
        case 2:
          if (live.size() > 2) pool.Close(one);
          break;
        case 3:
          if (live.size() > 2) one.alive = false;  // hangs
          break;
        case 4:
          ASSERT_TRUE(pool.state.SetReplicas(1 + 0.5 * pick(0, 4), pool.now).ok());
          break;
        case 5: {
          const WorkerId id(one.id);
          ASSERT_TRUE(
              (pick(0, 1) == 0 ? pool.state.Drain(id, pool.now) : pool.state.Undrain(id, pool.now))
                  .ok());
          break;
        }
        case 6:
          pool.state.Rebalance(pool.now);
          break;
      }
      pool.Run(milliseconds(50 * pick(1, 40)));
    }
    for (const auto& [id, member] : pool.state.roster()) {
      if (member.draining) {
        ASSERT_TRUE(pool.state.Undrain(id, pool.now).ok());
      }
    }
    pool.Run(seconds(15));
    EXPECT_GE(pool.Least(), 1);
    EXPECT_EQ(pool.state.Status(pool.now).moving_bytes(), 0u);
    // And from then on, moves alone never uncover anything.
    pool.must_stay_covered = true;
    pool.Join(++instance);
    pool.Run(seconds(3));
    ASSERT_TRUE(pool.state.SetReplicas(1, pool.now).ok());
    pool.Run(seconds(5));
    pool.state.Rebalance(pool.now);
    pool.Run(seconds(5));
    EXPECT_FALSE(pool.lost_coverage);
    EXPECT_EQ(pool.Least(), 1);
  }
}

}  // namespace
}  // namespace sheaf

// Whom the coordinator takes out: workers whose links keep breaking or whose answers are wrong, and
// nobody else.

#include "coordinator/pool_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/scripted_pool.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

TEST(PoolState, LinksThatKeepBreakingTakeAWorkerOutForAWhile) {
  auto pool = FullPool(3);
  const SessionId router = pool->JoinRouter(50);
  v1::RouterReport report;
  Link(*pool, report, 0, true);
  Link(*pool, report, 2, true);
  Link(*pool, report, 1, true, 5);
  pool->Report(router, report);
  EXPECT_EQ(pool->state.counters().quarantines, 1);
  pool->Run(seconds(3));
  EXPECT_EQ(pool->state.Status(pool->now).workers(1).state(), v1::WorkerStatus::QUARANTINED);
  EXPECT_EQ(pool->views[router].back().workers_size(), 2);
  // The others hold all.
  EXPECT_EQ(pool->workers[0]->held.count() + pool->workers[2]->held.count(), 30);
  pool->Run(seconds(3));
  EXPECT_EQ(pool->state.Status(pool->now).workers(1).state(), v1::WorkerStatus::READY);
  EXPECT_EQ(pool->views[router].back().workers_size(), 3);
}

TEST(PoolState, ARouterThatReachesNobodyBlamesNobody) {
  auto pool = FullPool(3);
  const SessionId router = pool->JoinRouter(50);
  for (int i = 0; i < 20; ++i) {
    v1::RouterReport report;
    for (size_t w = 0; w < 3; ++w) Link(*pool, report, w, false, 3);
    pool->Report(router, report);
    pool->Run(seconds(1));
  }
  EXPECT_EQ(pool->state.counters().quarantines, 0);
}

TEST(PoolState, WhomNoRouterReachesIsTakenOut) {
  auto pool = FullPool(3);
  const SessionId router = pool->JoinRouter(50);
  for (int i = 0; i < 12; ++i) {
    v1::RouterReport report;
    Link(*pool, report, 0, true);
    Link(*pool, report, 1, false);
    Link(*pool, report, 2, true);
    pool->Report(router, report);
    pool->Run(seconds(1));
  }
  EXPECT_EQ(pool->state.counters().quarantines, 1);
  EXPECT_TRUE(pool->Noted("no router reaches it: connection refused"));
}

TEST(PoolState, AWrongAnswerIsReadAgainAndTheSecondTakesTheWorkerOut) {
  auto pool = FullPool(3);
  const SessionId router = pool->JoinRouter(50);
  v1::RouterReport report;
  v1::WrongAnswer& wrong = *report.add_wrong_answers();
  wrong.set_worker_id(1);
  wrong.set_instance(2);
  wrong.set_layer(2);
  wrong.set_expert(4);
  pool->Report(router, report);
  ASSERT_EQ(pool->workers[1]->reloads.size(), 1u);
  EXPECT_EQ(pool->workers[1]->reloads[0].expert(), 4);
  EXPECT_EQ(pool->state.counters().quarantines, 0);
  pool->Run(seconds(10));
  pool->Report(router, report);
  EXPECT_EQ(pool->state.counters().quarantines, 1);
  pool->Run(seconds(3));
  EXPECT_EQ(pool->workers[1]->held.count(), 0);  // nothing of it can be trusted
  EXPECT_EQ(pool->Least(), 1);
}

TEST(PoolState, AWrongAnswerOfAnotherLifeIsNobodys) {
  auto pool = FullPool(2);
  const SessionId router = pool->JoinRouter(50);
  v1::RouterReport report;
  v1::WrongAnswer& wrong = *report.add_wrong_answers();
  wrong.set_worker_id(1);
  wrong.set_instance(77);
  wrong.set_layer(2);
  pool->Report(router, report);
  EXPECT_TRUE(pool->workers[1]->reloads.empty());
}

}  // namespace
}  // namespace sheaf

// Who may join the coordinator, what it is told, and what ends its session.

#include "coordinator/pool_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/coordinator/scripted_pool.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

// Each router gets its own keys, and the worker's secret goes to nobody.
TEST(PoolState, ARouterGetsTheKeysOfItsOwnLinks) {
  auto pool = std::make_unique<ScriptedPool>(ScriptedPool::Options(1));
  const SessionId first = pool->JoinRouter(50);
  const SessionId second = pool->JoinRouter(51);
  v1::FromWorker hello = HelloOf(7);
  LinkSecret secret{1, 2, 3};
  hello.mutable_hello()->set_secret(std::string(secret.begin(), secret.end()));
  pool->Join(7, hello);
  pool->Run(std::chrono::seconds(1));
  const auto key_of = [&](SessionId router) {
    const v1::PoolView& view = pool->views[router].back();
    EXPECT_EQ(view.workers_size(), 1);
    EXPECT_EQ(view.SerializeAsString().find(hello.hello().secret()), std::string::npos);
    return view.workers(0).link_key();
  };
  const auto wanted = [&](uint64_t router) {
    const LinkKey key = LinkKeyFor(secret, InstanceId(7), InstanceId(router));
    return std::string(key.bytes.begin(), key.bytes.end());
  };
  EXPECT_EQ(key_of(first), wanted(50));
  EXPECT_EQ(key_of(second), wanted(51));
}

TEST(PoolState, HellosAreRefusedByName) {
  const auto refused = [](const std::function<void(v1::WorkerHello&)>& spoil) {
    PoolStateOptions options = ScriptedPool::Options(1);
    options.token = "right";
    ScriptedPool pool(options);
    v1::FromWorker hello = HelloOf(1);
    hello.mutable_hello()->set_token("right");
    spoil(*hello.mutable_hello());
    const ScriptedPool::Worker& worker = pool.Join(1, hello);
    return worker.ended.value_or(absl::OkStatus());
  };
  EXPECT_TRUE(refused([](v1::WorkerHello&) {}).ok());
  EXPECT_EQ(refused([](v1::WorkerHello& h) { h.set_token("wrong"); }).code(),
            absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(refused([](v1::WorkerHello& h) { h.clear_token(); }).code(),
            absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(refused([](v1::WorkerHello& h) { h.set_protocol_version(1); }).code(),
            absl::StatusCode::kFailedPrecondition);
  const absl::Status other = refused([](v1::WorkerHello& h) {
    h.mutable_model()->set_digest(78);
    h.mutable_model()->set_name("other");
  });
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(other.message()), HasSubstr("\"small\""));
  EXPECT_THAT(std::string(other.message()), HasSubstr("\"other\""));
  const std::vector<std::function<void(v1::WorkerHello&)>> hostile = {
      [](v1::WorkerHello& h) { h.set_host("a\nforged line"); },
      [](v1::WorkerHello& h) { h.set_host(std::string(256, 'a')); },
      [](v1::WorkerHello& h) { h.set_version("1\r2"); },
      [](v1::WorkerHello& h) { h.set_metrics_address("\x1b[31m"); },
      [](v1::WorkerHello& h) { h.mutable_model()->set_name("x\n"); },
      [](v1::WorkerHello& h) { h.set_secret("short"); },
      [](v1::WorkerHello& h) { h.set_instance(0); },
      [](v1::WorkerHello& h) { h.clear_addresses(); },
      [](v1::WorkerHello& h) { h.set_addresses(0, ""); },
      [](v1::WorkerHello& h) { h.set_addresses(0, std::string(300, 'x')); },
      [](v1::WorkerHello& h) {
        for (int i = 0; i < 8; ++i) h.add_addresses("tcp:h:1");
      },
      [](v1::WorkerHello& h) { h.set_expert_bytes(0); },
      [](v1::WorkerHello& h) { h.set_preferred_id(-2); },
      [](v1::WorkerHello& h) { h.set_preferred_id(1 << 30); },
      [](v1::WorkerHello& h) { h.set_holdings("nonsense"); },
      [](v1::WorkerHello& h) {
        Holdings dense(4, 10);
        dense.Add(LayerId(0), ExpertId(0));
        h.set_holdings(dense.Encode());
      },
  };
  for (size_t i = 0; i < hostile.size(); ++i) {
    EXPECT_EQ(refused(hostile[i]).code(), absl::StatusCode::kInvalidArgument) << i;
  }
}

TEST(PoolState, NonsenseEndsASessionAndNothingElse) {
  auto pool = FullPool(2);
  v1::FromWorker message;
  message.mutable_holdings()->set_holdings("x");
  pool->Say(*pool->workers[0], message);
  EXPECT_EQ(pool->workers[0]->ended->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(pool->lost.back().cause, LossCause::kProtocol);
  const SessionId router = pool->JoinRouter(50);
  v1::RouterReport report;
  report.add_pairs(1);
  pool->Report(router, report);
  EXPECT_EQ(pool->router_ends[router].code(), absl::StatusCode::kInvalidArgument);
  // A report with experts outside the model.
  const SessionId again = pool->JoinRouter(51);
  v1::RouterReport outside;
  v1::ExpertRange& range = *outside.add_orphans();
  range.set_layer(1);
  range.set_begin(-5);
  range.set_end(2000000000);
  pool->Report(again, outside);
  EXPECT_EQ(pool->router_ends[again].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(pool->state.roster().size(), 1u);
}

TEST(PoolState, TheSameProcessOnANewStreamReplacesItsOldOne) {
  auto pool = FullPool(2);
  v1::FromWorker hello = HelloOf(1);
  hello.mutable_hello()->set_holdings(pool->workers[0]->held.Encode());
  const ScriptedPool::Worker& again = pool->Join(1, hello);
  EXPECT_EQ(again.id, 0);
  EXPECT_EQ(pool->workers[0]->ended->code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(pool->lost.empty());
  pool->Close(*pool->workers[0]);  // late news
  EXPECT_TRUE(pool->lost.empty());
  EXPECT_EQ(pool->state.roster().size(), 2u);
}

TEST(PoolState, AStrangerThatSaysNothingIsSentAway) {
  ScriptedPool pool(ScriptedPool::Options(1));
  pool.state.RouterOpened(SessionId(900), pool.now);
  pool.Run(milliseconds(9900));
  EXPECT_EQ(pool.router_ends.count(SessionId(900)), 0u);
  pool.Run(milliseconds(300));
  EXPECT_EQ(pool.router_ends.at(SessionId(900)).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sheaf

// A whole worker against a coordinator over real gRPC and routers in process: it joins, holds what
// it is asked to, answers, goes on without a coordinator, and leaves without anybody noticing.

#include "worker/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/exchange/test_seed.h"
#include "tests/worker/fake_coordinator.h"
#include "tests/worker/test_router.h"
#include "worker/in_process_workers.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

class WorkerTest : public testing::Test {
 protected:
  void StartWorker(const std::string& coordinator, const std::string& token = "") {
    WorkerConfig config;
    config.coordinator = coordinator;
    config.token = token;
    config.model = TestModel();
    config.instance = InstanceId(77);
    config.secret = {1, 2, 3};
    config.pid = 12;
    config.host = "here";
    config.version = "test";
    experts_.SetMemory(12 * kTestExpertBytes);
    config.max_back_off = milliseconds(200);
    config.seen_patience = seconds(5);
    worker_ = std::make_unique<Worker>(config, experts_, maker_, metrics_);
    thread_ = std::thread([this] {
      result_ = worker_->Run();
      absl::MutexLock lock(&mutex_);
      ended_ = true;
    });
  }
  ~WorkerTest() override {
    if (thread_.joinable()) {
      experts_.Open();
      worker_->Stop();
      worker_->Stop();
      thread_.join();
    }
  }
  absl::Status Join() {
    thread_.join();
    return result_;
  }
  bool ended() {
    absl::MutexLock lock(&mutex_);
    return ended_;
  }
  TestRouter Router(const v1::WorkerHello& worker, uint64_t instance) {
    LinkSecret secret{};
    std::copy(worker.secret().begin(), worker.secret().end(), secret.begin());
    const InstanceId to(worker.instance()), from(instance);
    return TestRouter(maker_, {worker.addresses().begin(), worker.addresses().end()},
                      {TestModel().digest, to, from, LinkId(++last_link_),
                       LinkKeyFor(secret, to, from)});
  }
  void ExpectAnswer(TestRouter& router, int num_experts = kTestExperts) {
    const RandomBatch batch(random_, LayerId(1), 3, kTestHidden, num_experts, 2);
    ASSERT_NE(router.Ask(batch.At(1)), 0u);
    const auto answer = router.NextAnswer();
    ASSERT_TRUE(answer.has_value()) << router.status();
    ExpectRightBits(batch.At(1), experts_.weights(), *answer);
  }

  const uint64_t seed_ = TestSeed();
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  TestExperts experts_{seed_};
  InProcessNetwork network_;
  InProcessLinkMaker maker_{network_};
  prometheus::Registry registry_;
  WorkerMetrics metrics_{registry_, "test"};
  std::unique_ptr<Worker> worker_;
  absl::Status result_;
  absl::Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
  uint64_t last_link_ = 0;
};

TEST_F(WorkerTest, JoinsBeforeItHoldsAnythingLoadsAndServes) {
  FakeCoordinator coordinator;
  StartWorker(coordinator.address(), "secret token");
  ASSERT_TRUE(coordinator.WaitForHellos(1));
  const v1::WorkerHello hello = coordinator.hello(0);
  EXPECT_EQ(hello.instance(), 77u);
  EXPECT_EQ(hello.secret().size(), 32u);
  EXPECT_EQ(hello.addresses_size(), 1);
  EXPECT_EQ(hello.token(), "secret token");
  EXPECT_EQ(hello.expert_bytes(), kTestExpertBytes);
  EXPECT_EQ(hello.memory_bytes(), 12 * kTestExpertBytes);
  EXPECT_EQ(hello.model().digest(), TestModel().digest);
  EXPECT_TRUE(FakeCoordinator::Decode(hello.holdings()).empty());
  // A router may come before there is anything.
  TestRouter router = Router(hello, 1);
  ASSERT_TRUE(router.WaitForHoldings({}));
  coordinator.Hold(1, Pairs(1, 0, kTestExperts));
  ASSERT_TRUE(coordinator.WaitForHoldings(Pairs(1, 0, kTestExperts)));
  ASSERT_TRUE(router.WaitForHoldings(Pairs(1, 0, kTestExperts)));
  ExpectAnswer(router);
  const auto beat = coordinator.WaitForMessage([](const v1::FromWorker& message) {
    return message.has_beat() && message.beat().pairs() == 6;
  });
  ASSERT_TRUE(beat.has_value());
  EXPECT_EQ(beat->beat().hold_number(), 1u);
  EXPECT_EQ(beat->beat().hold_left_bytes(), 0u);
  EXPECT_EQ(beat->beat().resident_bytes(), kTestExperts * kTestExpertBytes);
  EXPECT_EQ(beat->beat().links(), 1);
  EXPECT_GT(beat->beat().busy_seconds(), 0);
}

TEST_F(WorkerTest, MovesExpertsWhileItServes) {
  FakeCoordinator coordinator;
  StartWorker(coordinator.address());
  ASSERT_TRUE(coordinator.WaitForHellos(1));
  TestRouter router = Router(coordinator.hello(0), 1);
  coordinator.Hold(1, Pairs(1, 0, 4));
  ASSERT_TRUE(router.WaitForHoldings(Pairs(1, 0, 4)));
  coordinator.Hold(2, Pairs(1, 2, 8));
  ASSERT_TRUE(router.WaitForHoldings(Pairs(1, 2, 8)));
  ASSERT_TRUE(coordinator.WaitForHoldings(Pairs(1, 2, 8)));
  ASSERT_TRUE(coordinator
                  .WaitForMessage([](const v1::FromWorker& message) {
                    return message.has_beat() && message.beat().hold_number() == 2 &&
                           message.beat().resident_bytes() == 6 * kTestExpertBytes;
                  })
                  .has_value());
  const RandomBatch batch(random_, LayerId(1), 1, kTestHidden, kTestExperts, kTestExperts);
  router.Ask(batch.At(1));
  const auto answer = router.NextAnswer();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->header.kind, FrameKind::kNotHeld);
  EXPECT_EQ(answer->not_held(), (std::vector<int32_t>{0, 1}));
}

TEST_F(WorkerTest, WhatCannotBeLoadedIsToldAndWorkGoesOn) {
  experts_.FailWith(Pair(1, 1), absl::InvalidArgumentError("shard-1: NaN\nin scales"));
  FakeCoordinator coordinator;
  StartWorker(coordinator.address());
  ASSERT_TRUE(coordinator.WaitForHellos(1));
  coordinator.Hold(5, Pairs(1, 0, 3));
  const auto failed = coordinator.WaitForMessage(
      [](const v1::FromWorker& message) { return message.has_hold_failed(); });
  ASSERT_TRUE(failed.has_value());
  EXPECT_EQ(failed->hold_failed().number(), 5u);
  EXPECT_EQ(failed->hold_failed().layer(), 1);
  EXPECT_EQ(failed->hold_failed().expert(), 1);
  EXPECT_TRUE(failed->hold_failed().permanent());
  EXPECT_EQ(failed->hold_failed().reason(), "shard-1: NaN\\nin scales");
  EXPECT_TRUE(coordinator.WaitForHoldings({Pair(1, 0), Pair(1, 2)}));
}

TEST_F(WorkerTest, ServesWithoutACoordinatorAndTellsANewOneWhatItHolds) {
  auto coordinator = std::make_unique<FakeCoordinator>();
  const int port = coordinator->port();
  StartWorker(coordinator->address());
  ASSERT_TRUE(coordinator->WaitForHellos(1));
  const v1::WorkerHello hello = coordinator->hello(0);
  TestRouter router = Router(hello, 1);
  coordinator->Hold(1, Pairs(1, 0, kTestExperts));
  ASSERT_TRUE(router.WaitForHoldings(Pairs(1, 0, kTestExperts)));
  ASSERT_TRUE(coordinator->WaitForHoldings(Pairs(1, 0, kTestExperts)));
  coordinator = nullptr;
  ExpectAnswer(router);
  TestRouter late = Router(hello, 2);
  ASSERT_TRUE(late.WaitForHoldings(Pairs(1, 0, kTestExperts)));
  ExpectAnswer(late);
  coordinator = std::make_unique<FakeCoordinator>(port);
  ASSERT_TRUE(coordinator->WaitForHellos(1));
  const v1::WorkerHello again = coordinator->hello(0);
  EXPECT_EQ(FakeCoordinator::Decode(again.holdings()), Pairs(1, 0, kTestExperts));
  EXPECT_EQ(again.preferred_id(), 3);
  EXPECT_EQ(again.instance(), hello.instance());
  coordinator->Hold(1, Pairs(1, 0, kTestExperts));  // a new session counts from the beginning
  coordinator->Hold(2, Pairs(1, 0, 7));
  ASSERT_TRUE(router.WaitForHoldings(Pairs(1, 0, 7)));
  ExpectAnswer(router, 7);
  EXPECT_EQ(experts_.loads().size(), static_cast<size_t>(kTestExperts)) << "nothing was read twice";
}

TEST_F(WorkerTest, ACoordinatorThatTalksNonsenseIsLeftAndJoinedAgain) {
  FakeCoordinator coordinator;
  StartWorker(coordinator.address());
  ASSERT_TRUE(coordinator.WaitForHellos(1));
  coordinator.Hold(1, Pairs(1, 6, kTestExperts + 1));
  ASSERT_TRUE(coordinator.WaitForHellos(2));
  EXPECT_FALSE(ended());
}

TEST_F(WorkerTest, ARefusedTokenEndsTheWorkerWithTheReason) {
  FakeCoordinator coordinator(0, {grpc::StatusCode::UNAUTHENTICATED, "the token is wrong"});
  StartWorker(coordinator.address(), "wrong");
  const absl::Status status = Join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(HasSubstr("the token is wrong"), HasSubstr("the pool's token")));
}

TEST_F(WorkerTest, WhatAProxyOrAnOlderRouterSaysIsTriedAgain) {
  FakeCoordinator coordinator(0, {grpc::StatusCode::UNIMPLEMENTED, "unknown service"});
  StartWorker(coordinator.address());
  EXPECT_TRUE(coordinator.WaitForHellos(4));
  EXPECT_FALSE(ended());
}

TEST_F(WorkerTest, LeavesInOrder) {
  FakeCoordinator coordinator;
  StartWorker(coordinator.address());
  ASSERT_TRUE(coordinator.WaitForHellos(1));
  TestRouter router = Router(coordinator.hello(0), 1);
  coordinator.Hold(1, Pairs(1, 0, kTestExperts));
  ASSERT_TRUE(router.WaitForHoldings(Pairs(1, 0, kTestExperts)));
  worker_->Stop();
  ASSERT_TRUE(
      coordinator
          .WaitForMessage([](const v1::FromWorker& message) { return message.has_leaving(); })
          .has_value());
  ExpectAnswer(router);
  coordinator.Hold(2, {});
  // It has told, and the router asks once more before it has seen that.
  ASSERT_TRUE(router.WaitForHoldings({}, false));
  ExpectAnswer(router);
  EXPECT_FALSE(ended());
  router.Seen(router.holdings().number);
  EXPECT_TRUE(Join().ok());
  EXPECT_TRUE(coordinator.WaitForNobody());
  EXPECT_EQ(experts_.resident(), 0u);
}

TEST_F(WorkerTest, StopWithoutACoordinatorEndsAtOnceAndASecondOneAlsoWhileItLoads) {
  StartWorker("127.0.0.1:1");
  worker_->Stop();
  EXPECT_TRUE(Join().ok());

  FakeCoordinator coordinator;
  experts_.Gate();
  StartWorker(coordinator.address());
  ASSERT_TRUE(coordinator.WaitForHellos(1));
  coordinator.Hold(1, Pairs(1, 0, kTestExperts));
  ASSERT_TRUE(experts_.WaitForLoads(1));
  worker_->Stop();
  worker_->Stop();
  experts_.Open();  // the one being read is waited for
  EXPECT_TRUE(Join().ok());
}

TEST_F(WorkerTest, ALostEngineEndsItAtOnceWithItsReason) {
  FakeCoordinator coordinator;
  StartWorker(coordinator.address());
  ASSERT_TRUE(coordinator.WaitForHellos(1));
  coordinator.Hold(1, Pairs(1, 0, kTestExperts));
  ASSERT_TRUE(coordinator.WaitForHoldings(Pairs(1, 0, kTestExperts)));
  experts_.Lose(absl::UnavailableError("cuda:0: gone"));
  const absl::Status status = Join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "cuda:0: gone");
}

TEST(InProcessWorkersTest, EachHoldsItsPartAndAnswersForIt) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const RandomExperts experts(seed, kTestLayers, kTestExperts, kTestHidden, 128);
  InProcessNetwork network;
  InProcessLinkMaker maker(network);
  const auto workers = InProcessWorkers::Start(
      maker, TestModel(), InstanceId(1),
      {{&experts, Pairs(1, 0, 8)}, {&experts, Pairs(2, 0, 8)}}, 1);
  ASSERT_TRUE(workers.ok()) << workers.status();
  ASSERT_EQ((*workers)->endpoints().size(), 2u);
  for (int i = 0; i < 2; ++i) {
    const WorkerEndpoint& endpoint = (*workers)->endpoints()[static_cast<size_t>(i)];
    EXPECT_EQ(endpoint.worker, WorkerId(i));
    TestRouter router(maker, endpoint.addresses,
                      {TestModel().digest, endpoint.instance, InstanceId(1), LinkId(9),
                       endpoint.key});
    ASSERT_TRUE(router.status().ok()) << router.status();
    ASSERT_TRUE(router.WaitForHoldings(Pairs(1 + i, 0, 8)));
    const RandomBatch batch(random, LayerId(1 + i), 2, kTestHidden, kTestExperts, 3);
    router.Ask(batch.At(1));
    const auto answer = router.NextAnswer();
    ASSERT_TRUE(answer.has_value());
    ExpectRightBits(batch.At(1), experts, *answer);
  }
}

}  // namespace
}  // namespace sheaf

// Whole workers against a whole router side: real gRPC on a free port, links in process. They join,
// serve the right bits, leave, are replaced, and find a router that comes back.

#include "worker/worker.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "exchange/in_process_transport.h"
#include "exchange/local_expert_layer.h"
#include "router/cluster/cluster_service.h"
#include "tests/exchange/random_experts.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

constexpr std::chrono::seconds kPatience{20};
constexpr int kLayers = 3, kFirstMoe = 1, kExperts = 5, kHidden = 256;

ModelIdentity Identity() { return {11, kLayers, kFirstMoe, kExperts, kHidden}; }

class Watcher final : public ClusterObserver {
 public:
  void OnChange(const ClusterSnapshot& snapshot) override {
    std::lock_guard lock(mutex_);
    last_ = snapshot;
    changed_.notify_all();
  }
  template <typename Predicate>
  void WaitFor(const Predicate& wanted) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, kPatience, [&] { return wanted(last_); })) << last_.text;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  ClusterSnapshot last_;
};

class Router {
 public:
  Router(Transport& transport, int num_workers, int port = 0)
      : controller_({.num_workers = num_workers, .model = Identity()}, transport, clock_,
                    &watcher_),
        service_(controller_) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr);
  }
  ~Router() {
    controller_.Stop();
    server_->Shutdown(std::chrono::system_clock::now() + kPatience);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  int port() const { return port_; }
  ClusterController& controller() { return controller_; }
  void WaitServing(uint64_t epoch) {
    watcher_.WaitFor([&](const auto& now) { return now.ready && now.epoch >= Epoch(epoch); });
  }
  void WaitNotServing() {
    watcher_.WaitFor([](const auto& now) { return !now.ready && now.epoch >= Epoch(1); });
  }

 private:
  SteadyClock clock_;
  Watcher watcher_;
  ClusterController controller_;
  ClusterService service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// Holds what it was assigned of shared weights, and nothing else.
class PartOfExperts final : public LoadedSlice {
 public:
  PartOfExperts(const RandomExperts& all, std::span<const LayerExpert> held)
      : all_(all), held_(held.begin(), held.end()) {}
  const kernels::ExpertWeights* Find(LayerId layer, ExpertId expert) const override {
    const bool here =
        std::find(held_.begin(), held_.end(), LayerExpert{layer, expert}) != held_.end();
    return here ? all_.Find(layer, expert) : nullptr;
  }
  size_t num_experts() const override { return held_.size(); }
  size_t resident_bytes() const override { return 1000 * held_.size(); }

 private:
  const RandomExperts& all_;
  const std::vector<LayerExpert> held_;
};

class RunningWorker {
 public:
  RunningWorker(const std::string& router, const std::string& instance, SliceLoader loader,
                Transport& transport, ModelIdentity model = Identity())
      : metrics_(registry_, "test"),
        worker_({.router = router,
                 .model = model,
                 .instance = instance,
                 .host = "here",
                 .metrics_address = "",
                 .version = "test",
                 .threads = 1,
                 .max_back_off = std::chrono::milliseconds(200)},
                std::move(loader), transport, metrics_),
        thread_([this] { result_ = worker_.Run(); }) {}
  ~RunningWorker() { Stop().IgnoreError(); }

  absl::Status Stop() {
    worker_.Stop();
    return Join();
  }
  absl::Status Join() {
    if (thread_.joinable()) thread_.join();
    return result_;
  }

 private:
  prometheus::Registry registry_;
  WorkerMetrics metrics_;
  Worker worker_;
  absl::Status result_;
  std::thread thread_;
};

class WorkerTest : public testing::Test {
 protected:
  SliceLoader Loader() {
    return [this](std::span<const LayerExpert> held, ThreadPool&,
                  const LoadProgress& progress) -> absl::StatusOr<std::unique_ptr<LoadedSlice>> {
      ++loads_;
      progress(1, 2);
      return std::make_unique<PartOfExperts>(experts_, held);
    };
  }
  void ExpectRightBits(Router& router) {
    RemoteExpertLayer remote(router.controller(), pool_, {.base_timeout = kPatience});
    LocalExpertLayer local(experts_, kLayers, kExperts, pool_);
    const RandomBatch batch(random_, LayerId(2), 20, kHidden, kExperts, 3);
    std::vector<float> want(batch.sum_floats()), got(batch.sum_floats());
    ASSERT_TRUE(local.Begin(batch.At(1)).ok() && local.Finish(want.data()).ok());
    absl::Status status = remote.Begin(batch.At(1));
    if (status.ok()) status = remote.Finish(got.data());
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(0, std::memcmp(want.data(), got.data(), want.size() * sizeof(float)));
  }

  const uint64_t seed_ = TestSeed();
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  RandomExperts experts_{seed_, kLayers, kExperts, kHidden, 128};
  ThreadPool pool_{1};
  InProcessTransport transport_;
  std::atomic<int> loads_{0};
};

TEST_F(WorkerTest, WorkersJoinLoadTheirSliceAndServe) {
  Router router(transport_, 2);
  RunningWorker first(router.address(), "first", Loader(), transport_);
  RunningWorker second(router.address(), "second", Loader(), transport_);
  router.WaitServing(1);
  ExpectRightBits(router);
  EXPECT_EQ(loads_, 2);
  const ClusterSnapshot now = router.controller().snapshot();
  uint64_t bytes = 0;
  for (const Slot& slot : now.slots) bytes += slot.slice_bytes;
  EXPECT_EQ(bytes, 1000u * 2 * kExperts) << "two MoE layers, every expert once";
}

TEST_F(WorkerTest, AWorkerThatIsStoppedLeavesAndAnotherTakesItsPlace) {
  Router router(transport_, 2);
  RunningWorker first(router.address(), "first", Loader(), transport_);
  RunningWorker second(router.address(), "second", Loader(), transport_);
  router.WaitServing(1);
  EXPECT_TRUE(second.Stop().ok());
  router.WaitNotServing();
  EXPECT_THAT(std::string(router.controller().Current().status().message()),
              HasSubstr("it left: asked to stop"));
  RunningWorker third(router.address(), "third", Loader(), transport_);
  router.WaitServing(2);
  ExpectRightBits(router);
}

TEST_F(WorkerTest, AWorkerHeldForLostJoinsAgainWithItsSliceInMemory) {
  Router router(transport_, 1);
  RunningWorker worker(router.address(), "only", Loader(), transport_);
  router.WaitServing(1);
  router.controller().OnFault(
      Epoch(1), {absl::DeadlineExceededError("worker 0 did not answer"), {WorkerId(0)}, false});
  router.WaitServing(2);
  ExpectRightBits(router);
  EXPECT_EQ(loads_, 1);
}

TEST_F(WorkerTest, WorkersFindARouterThatWasRestarted) {
  auto router = std::make_unique<Router>(transport_, 1);
  const int port = router->port();
  RunningWorker worker(router->address(), "only", Loader(), transport_);
  router->WaitServing(1);
  router = nullptr;
  router = std::make_unique<Router>(transport_, 1, port);
  router->WaitServing(1);
  ExpectRightBits(*router);
  EXPECT_EQ(loads_, 1);
}

TEST_F(WorkerTest, ASpareWorkerWaitsForAVacantSlot) {
  Router router(transport_, 1);
  RunningWorker first(router.address(), "first", Loader(), transport_);
  router.WaitServing(1);
  RunningWorker spare(router.address(), "spare", Loader(), transport_);
  EXPECT_TRUE(first.Stop().ok());
  router.WaitServing(2);
  ExpectRightBits(router);
  EXPECT_EQ(router.controller().snapshot().slots[0].member.instance, "spare");
}

TEST_F(WorkerTest, AnotherModelEndsTheWorkerWithTheReason) {
  Router router(transport_, 1);
  ModelIdentity other = Identity();
  other.num_experts = 6;
  RunningWorker worker(router.address(), "other", Loader(), transport_, other);
  const absl::Status status = worker.Join();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("got config 000000000000000b, 3 layers (MoE from 1), 6 experts"));
}

TEST_F(WorkerTest, ASliceThatCannotBeLoadedEndsTheWorkerWithTheReason) {
  Router router(transport_, 1);
  RunningWorker worker(
      router.address(), "broken",
      [](auto, auto&, const auto&) -> absl::StatusOr<std::unique_ptr<LoadedSlice>> {
        return absl::DataLossError("model-00001.safetensors: truncated");
      },
      transport_);
  EXPECT_THAT(std::string(worker.Join().message()), HasSubstr("truncated"));
}

TEST_F(WorkerTest, StopWithoutARouterEndsAtOnce) {
  RunningWorker worker("127.0.0.1:1", "alone", Loader(), transport_);
  EXPECT_TRUE(worker.Stop().ok());
}

}  // namespace
}  // namespace sheaf

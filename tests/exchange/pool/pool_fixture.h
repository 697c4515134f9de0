#pragma once
// A router's link pool and some test workers in one process.

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "exchange/pool/link_pool.h"
#include "tests/exchange/pool/test_worker.h"
#include "tests/exchange/random_experts.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {

// Notes what happens, and lets a test wait for it.
class NotingObserver final : public LinkPoolObserver {
 public:
  void OnLinkUp(WorkerId worker, const std::string&) override {
    Note("up " + std::to_string(worker.value()));
  }
  void OnLinkDown(WorkerId worker, const absl::Status& why) override {
    Note("down " + std::to_string(worker.value()) + " " + std::string(why.message()));
  }
  void OnConnectFailed(WorkerId worker, const absl::Status& why) override {
    Note("failed " + std::to_string(worker.value()) + " " + std::string(why.message()));
  }
  void OnLateAnswer(WorkerId worker) override { Note("late " + std::to_string(worker.value())); }

  int Count(const std::string& what) const {
    absl::MutexLock lock(&mutex_);
    return CountLocked(what);
  }
  // `what` begins a line at least `times` times, within 20 s.
  bool Await(const std::string& what, int times = 1) const {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&] { return CountLocked(what) >= times; };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(20));
  }

 private:
  int CountLocked(const std::string& what) const {
    int count = 0;
    for (const std::string& line : lines_) count += line.rfind(what, 0) == 0 ? 1 : 0;
    return count;
  }
  void Note(std::string line) {
    absl::MutexLock lock(&mutex_);
    lines_.push_back(std::move(line));
  }
  mutable absl::Mutex mutex_;
  std::vector<std::string> lines_;
};

class PoolFixture : public testing::Test {
 protected:
  static constexpr int kLayers = 2;
  static constexpr int kExperts = 7;
  static constexpr int kHidden = 384;
  static constexpr int kInner = 128;
  static constexpr int kTopK = 3;
  static constexpr uint64_t kDigest = 0x1234567890abcdef;

  PoolFixture() {
    for (int layer = 0; layer < kLayers; ++layer)
      for (int expert = 0; expert < kExperts; ++expert)
        everything_.Add(LayerId(layer), ExpertId(expert));
  }

  LinkPoolOptions PoolOptions() const {
    LinkPoolOptions options;
    options.model = {kDigest, kLayers, 0, kExperts, kHidden, "random"};
    options.router = kTestRouter;
    options.seed = 5;
    return options;
  }
  void MakePool(const LinkPoolOptions& options) {
    auto pool = LinkPool::Create(options, InProcessLinkMaker(network_).NewConnector(), clock_,
                                 &observer_);
    ASSERT_TRUE(pool.ok()) << pool.status();
    links_ = *std::move(pool);
  }
  // Expert e on the workers e % count, e + 1 % count, ...: `replicas` of them.
  Holdings Share(int worker, int count, int replicas) const {
    Holdings holdings(kLayers, kExperts);
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int expert = 0; expert < kExperts; ++expert) {
        for (int copy = 0; copy < replicas; ++copy) {
          if ((expert + copy) % count == worker) holdings.Add(LayerId(layer), ExpertId(expert));
        }
      }
    }
    return holdings;
  }
  void AddWorker(int id, Holdings holdings) {
    if (workers_.size() <= size_t(id)) workers_.resize(size_t(id) + 1);
    workers_[size_t(id)].reset();
    workers_[size_t(id)] = std::make_unique<TestWorker>(network_, WorkerId(id), kDigest, experts_,
                                                        std::move(holdings));
  }
  void ListWorkers() {
    std::vector<WorkerEndpoint> endpoints;
    for (const auto& worker : workers_) {
      if (worker != nullptr) endpoints.push_back(worker->endpoint());
    }
    links_->SetWorkers(std::move(endpoints));
  }
  void StartWorkers(int count, int replicas) {
    for (int id = 0; id < count; ++id) AddWorker(id, Share(id, count, replicas));
    ListWorkers();
    for (int id = 0; id < count; ++id) ASSERT_TRUE(observer_.Await("up " + std::to_string(id)));
  }
  // Until the published view says so.
  bool AwaitReady(bool ready) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (links_->Ready().ok() != ready) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  const uint64_t seed_ = TestSeed();
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  RandomExperts experts_{seed_, kLayers, kExperts, kHidden, kInner};
  Holdings everything_{kLayers, kExperts};
  SteadyClock clock_;
  InProcessNetwork network_;
  NotingObserver observer_;
  std::vector<std::unique_ptr<TestWorker>> workers_;
  std::unique_ptr<LinkPool> links_;
};

}  // namespace sheaf

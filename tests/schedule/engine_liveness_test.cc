// What the engine says of itself: live while its steps go on, and how much waits and runs.

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <random>

#include "router/schedule/engine.h"
#include "tests/schedule/engine_fixture.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::EngineSettings;
using testing::RandomRequest;
using testing::RunningEngine;
using testing::TinyCheckpoint;

class EngineLivenessTest : public ::testing::Test {
 protected:
  EngineLivenessTest() {
    settings_.clock = &clock_;
    settings_.engine.max_step_time = std::chrono::seconds(120);
    settings_.engine.max_unready_wait = std::chrono::hours(100);
  }
  // Before clock_ and mutex_ go, every step must be able to end.
  void TearDown() override { Release(); }

  // Experts that do not answer until Release.
  void Block(RunningEngine& running) {
    running.experts.finish = [this](const RoutedBatch&, float*) -> absl::Status {
      std::unique_lock lock(mutex_);
      ++blocked_;
      changed_.notify_all();
      EXPECT_TRUE(changed_.wait_for(lock, std::chrono::minutes(1), [&] { return released_; }));
      return absl::OkStatus();
    };
  }
  void WaitUntilBlocked() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::minutes(1), [&] { return blocked_ > 0; }));
  }
  void Release() {
    std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }

  const uint64_t seed_ = testing::RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_}};
  ManualClock clock_;
  EngineSettings settings_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int blocked_ = 0;
  bool released_ = false;
};

TEST_F(EngineLivenessTest, AStepThatDoesNotEndIsNotLive) {
  RunningEngine running(checkpoint_, settings_);
  Block(running);
  EXPECT_TRUE(running.engine().live());
  const auto sink = running.Start(RandomRequest(random_, 5, 3));
  WaitUntilBlocked();
  EXPECT_TRUE(running.engine().live()) << "a step may take its time";
  clock_.Advance(std::chrono::seconds(120));
  EXPECT_TRUE(running.engine().live());
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_FALSE(running.engine().live());
  // Whoever waits for a worker is not helped by a new start.
  running.SetCluster(absl::UnavailableError("worker 0 died"));
  EXPECT_TRUE(running.engine().live());
  running.SetCluster(absl::OkStatus());
  EXPECT_FALSE(running.engine().live());
  Release();
  EXPECT_EQ(sink->WaitForEnd().completion_tokens, 3);
  EXPECT_TRUE(running.engine().live());
}

TEST_F(EngineLivenessTest, IdleAndWithoutItsClusterItIsLive) {
  RunningEngine running(checkpoint_, settings_);
  EXPECT_EQ(running.Start(RandomRequest(random_, 5, 3))->WaitForEnd().completion_tokens, 3);
  running.SetCluster(absl::UnavailableError("worker 0 died"));
  for (int hour = 0; hour < 24; ++hour) {
    clock_.Advance(std::chrono::hours(1));
    EXPECT_TRUE(running.engine().live());
  }
}

TEST_F(EngineLivenessTest, LoadCountsWhatWaitsAndWhatRuns) {
  settings_.engine.max_num_seqs = 2;
  RunningEngine running(checkpoint_, settings_);
  EngineLoad load = running.engine().load();
  EXPECT_EQ(load.queued + load.running + load.used_blocks, 0);
  EXPECT_EQ(load.total_blocks, running.num_blocks());
  Block(running);
  std::vector<std::shared_ptr<testing::RecordingSink>> sinks;
  sinks.push_back(running.Start(RandomRequest(random_, 17, 3)));
  WaitUntilBlocked();
  for (int i = 0; i < 4; ++i) sinks.push_back(running.Start(RandomRequest(random_, 5, 3)));
  load = running.engine().load();
  EXPECT_EQ(load.running, 1);
  EXPECT_EQ(load.queued, 4);
  EXPECT_EQ(load.used_blocks, 2);
  Release();
  for (const auto& sink : sinks) sink->WaitForEnd();
  load = running.engine().load();
  EXPECT_EQ(load.queued + load.running + load.used_blocks, 0);
}

}  // namespace
}  // namespace sheaf

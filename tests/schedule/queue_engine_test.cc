// The queue's order, its refusals and its turns, on a real engine.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <random>

#include "tests/schedule/engine_fixture.h"
#include "tests/schedule/transcript.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::EngineSettings;
using testing::RandomRequest;
using testing::RecordingSink;
using testing::RunningEngine;
using testing::TinyCheckpoint;
using testing::Transcript;

// No step goes on while it is closed.
class StepGate {
 public:
  explicit StepGate(RunningEngine& running) {
    running.experts.begin = [this](const RoutedBatch&) {
      std::unique_lock lock(mutex_);
      reached_ = true;
      changed_.notify_all();
      EXPECT_TRUE(changed_.wait_for(lock, std::chrono::minutes(1), [&] { return open_; }));
      return absl::OkStatus();
    };
  }
  ~StepGate() { Open(); }
  void WaitUntilReached() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::minutes(1), [&] { return reached_; }));
  }
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false, reached_ = false;
};

class QueueEngineTest : public ::testing::Test {
 protected:
  // Notes `name` when its first token comes.
  std::shared_ptr<RecordingSink> Noting(std::string name) {
    auto sink = std::make_shared<RecordingSink>();
    sink->on_token = [this, name = std::move(name)](size_t count) {
      if (count > 1) return;
      std::lock_guard lock(mutex_);
      began_.push_back(name);
    };
    sinks_.push_back(sink);
    return sink;
  }
  void Start(RunningEngine& running, const std::string& name, int32_t priority = 0,
             const std::string& key = "", int prompt = 10, int output = 4) {
    GenerationRequest request = RandomRequest(random_, prompt, output);
    request.priority = priority;
    request.fairness_key = key;
    ASSERT_TRUE(running.engine().Submit(std::move(request), Noting(name)).ok());
  }
  void StartChoices(RunningEngine& running, const std::string& name, int count,
                    const std::string& key = "") {
    std::vector<GenerationEngine::Submission> choices;
    for (int i = 0; i < count; ++i) {
      GenerationRequest request = RandomRequest(random_, 10, 4);
      request.fairness_key = key;
      choices.push_back({std::move(request), Noting(name)});
    }
    ASSERT_TRUE(running.engine().SubmitAll(std::move(choices)).ok());
  }
  std::vector<std::string> BeganWhenAllEnded() {
    for (const auto& sink : sinks_) EXPECT_TRUE(sink->WaitForEnd().status.ok());
    std::lock_guard lock(mutex_);
    return began_;
  }

  const uint64_t seed_ = testing::RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_}};
  std::mutex mutex_;
  std::vector<std::string> began_;
  std::vector<std::shared_ptr<RecordingSink>> sinks_;
};

TEST_F(QueueEngineTest, BetterPrioritiesComeFirst) {
  EngineSettings settings;
  settings.engine.max_num_seqs = 1;
  RunningEngine running(checkpoint_, settings);
  StepGate gate(running);
  Start(running, "running");
  gate.WaitUntilReached();
  for (const int priority : {3, 0, 7, -2}) Start(running, std::to_string(priority), priority);
  gate.Open();
  EXPECT_THAT(BeganWhenAllEnded(), ::testing::ElementsAre("running", "-2", "0", "3", "7"));
}

TEST_F(QueueEngineTest, KeysShareAndAnotherRequestDoesNotWaitForAllChoices) {
  EngineSettings settings;
  settings.engine.max_num_seqs = 2;
  RunningEngine running(checkpoint_, settings);
  StepGate gate(running);
  Start(running, "first", 0, "a");
  gate.WaitUntilReached();
  StartChoices(running, "choice", 60, "a");
  Start(running, "later", 0, "a");
  for (int i = 0; i < 4; ++i) Start(running, "other", 0, "b");
  gate.Open();
  const std::vector<std::string> began = BeganWhenAllEnded();
  const auto place = [&](const std::string& name) {
    return std::find(began.rbegin(), began.rend(), name).base() - began.begin();
  };
  EXPECT_LE(place("later"), 12) << "not behind sixty";
  EXPECT_LE(place("other"), 20) << "turn by turn";
}

TEST_F(QueueEngineTest, SlotsAreGivenBackAndTheOutputsStayTheSame) {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 6; ++i) {
    requests.push_back(RandomRequest(random_, 20 + i, i < 4 ? 200 : 20));
    requests.back().sampling.temperature = 1;
    requests.back().logprobs = 2;
    requests.back().fairness_key = i < 4 ? "holds" : "asks";
  }
  std::vector<std::string> quiet;
  for (const GenerationRequest& request : requests) {
    RunningEngine alone(checkpoint_, {});
    quiet.push_back(Transcript(*alone.Start(request)));
  }
  EngineSettings settings;
  settings.engine.max_num_seqs = 4;
  settings.engine.slot_turns = {.priority_patience = Duration{0},
                                .patience = Duration{0},
                                .min_turn = Duration{0},
                                .later_turn = std::chrono::hours(1)};
  RunningEngine running(checkpoint_, settings);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 4; ++i) sinks.push_back(running.Start(requests[static_cast<size_t>(i)]));
  for (const auto& sink : sinks) sink->WaitForTokens(2);
  for (int i = 4; i < 6; ++i) sinks.push_back(running.Start(requests[static_cast<size_t>(i)]));
  sinks[4]->WaitForEnd();
  int ended = 0;
  for (int i = 0; i < 4; ++i) ended += sinks[static_cast<size_t>(i)]->ended();
  EXPECT_EQ(ended, 0) << "it did not have to wait for a slot";
  for (size_t i = 0; i < sinks.size(); ++i) EXPECT_EQ(Transcript(*sinks[i]), quiet[i]) << i;
  running.engine().Stop(TimePoint::max());
  EXPECT_GE(running.observer.displaced, 1);
  EXPECT_LE(running.observer.displaced, 4);
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_F(QueueEngineTest, TokensAreBoundedAndRefusalsCounted) {
  EngineSettings settings;
  settings.engine.max_num_seqs = 1;
  settings.engine.max_queued_requests = 4;
  settings.engine.max_queued_tokens = 100;
  RunningEngine running(checkpoint_, settings);
  StepGate gate(running);
  Start(running, "running");
  gate.WaitUntilReached();
  const auto submit = [&](int choices, int tokens) {
    std::vector<GenerationEngine::Submission> all;
    for (int i = 0; i < choices; ++i) {
      all.push_back({RandomRequest(random_, tokens, 1), std::make_shared<RecordingSink>()});
    }
    return running.engine().SubmitAll(std::move(all)).status().code();
  };
  EXPECT_EQ(submit(5, 1), absl::StatusCode::kInvalidArgument) << "never five";
  EXPECT_EQ(submit(2, 51), absl::StatusCode::kInvalidArgument) << "never 102 tokens";
  EXPECT_EQ(submit(2, 40), absl::StatusCode::kOk);
  EXPECT_EQ(submit(1, 21), absl::StatusCode::kResourceExhausted) << "tokens";
  EXPECT_EQ(submit(2, 10), absl::StatusCode::kOk);
  EXPECT_EQ(submit(1, 1), absl::StatusCode::kResourceExhausted) << "requests";
  EXPECT_EQ(running.engine().load().queued, 4);
  EXPECT_EQ(running.engine().load().running, 1);
  gate.Open();
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.observer.refused_full, 2);
  EXPECT_EQ(running.observer.refused_never_fits, 2);
  EXPECT_EQ(running.observer.queued_tokens, 0);
}

TEST_F(QueueEngineTest, WhatCannotEndInTimeIsRefusedAndNeverPrefilled) {
  EngineSettings settings;
  settings.engine.max_num_seqs = 1;
  RunningEngine running(checkpoint_, settings);
  for (int i = 0; i < 90; ++i) Start(running, "", 0, "", 5, 30);
  sinks_[40]->WaitForEnd();
  GenerationRequest hurried = RandomRequest(random_, 50, 1);
  hurried.deadline = running.now() + std::chrono::milliseconds(1);
  const auto late = std::make_shared<RecordingSink>();
  const absl::Status refused = running.engine().Submit(hurried, late).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kDeadlineExceeded) << refused;
  EXPECT_THAT(std::string(refused.message()), ::testing::HasSubstr("wait in front of it"));
  // In front of all others the same is in time, as far as the queue goes.
  hurried.priority = -1;
  hurried.deadline = running.now() + std::chrono::minutes(10);
  EXPECT_TRUE(running.engine().Submit(hurried, late).ok());
  EXPECT_TRUE(late->WaitForEnd().status.ok());
  BeganWhenAllEnded();
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.observer.refused_too_late, 1);
}

TEST_F(QueueEngineTest, CancelledAndExpiredOnesLeaveTheQueueWithoutAStep) {
  EngineSettings settings;
  settings.engine.max_num_seqs = 1;
  RunningEngine running(checkpoint_, settings);
  StepGate gate(running);
  Start(running, "running", 0, "", 10, 2);
  gate.WaitUntilReached();
  const auto cancelled = std::make_shared<RecordingSink>();
  const SequenceId id = *running.engine().Submit(RandomRequest(random_, 10, 5), cancelled);
  GenerationRequest hurried = RandomRequest(random_, 10, 5);
  hurried.deadline = running.now();
  const auto expired = running.Start(hurried);
  running.engine().Cancel(id);
  gate.Open();
  EXPECT_EQ(cancelled->WaitForEnd().reason, FinishReason::kCancelled);
  EXPECT_EQ(expired->WaitForEnd().status.code(), absl::StatusCode::kDeadlineExceeded);
  BeganWhenAllEnded();
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.observer.steps, 2) << "of the one that ran";
  EXPECT_EQ(running.observer.admitted, 1);
}

}  // namespace
}  // namespace sheaf

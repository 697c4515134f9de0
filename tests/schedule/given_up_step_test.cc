// Steps that are given up, at any layer and as often as may be: no request fails, every client gets
// what it would have got, and those whose time is over are let go at once.

#include <gtest/gtest.h>

#include <cmath>
#include <future>
#include <random>

#include "tests/schedule/engine_fixture.h"
#include "tests/schedule/transcript.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::EngineSettings;
using testing::MixedRequests;
using testing::RandomRequest;
using testing::RecordingSink;
using testing::RunningEngine;
using testing::TinyCheckpoint;
using testing::Transcript;

class GivenUpStep : public ::testing::Test {
 protected:
  GivenUpStep() {
    settings_.engine.eos_token_ids = {testing::kEndOfText};
    settings_.engine.retry = {.poll = std::chrono::milliseconds(1),
                              .first_wait = std::chrono::microseconds(10),
                              .longest_wait = std::chrono::milliseconds(1)};
  }

  // Experts that give up `share` of all layers, before or after the work, with a spoiled sum.
  void GiveUpNowAndThen(RunningEngine& running, double share) {
    running.experts.begin = [this, share](const RoutedBatch&) { return Fault(share / 2); };
    running.experts.finish = [this, share](const RoutedBatch& batch, float* sum) {
      const absl::Status status = Fault(share / 2);
      if (!status.ok()) std::fill(sum, sum + size_t(batch.x.num_rows) * batch.x.k, std::nanf(""));
      return status;
    };
  }

  std::vector<std::string> Run(const std::vector<GenerationRequest>& requests,
                               const EngineSettings& settings, double share) {
    RunningEngine running(checkpoint_, settings);
    if (share > 0) GiveUpNowAndThen(running, share);
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    std::promise<void> submitted;
    for (const GenerationRequest& request : requests) {
      sinks.push_back(std::make_shared<RecordingSink>());
      if (sinks.size() == 1) {
        sinks[0]->on_token = [future = submitted.get_future().share()](size_t) {
          EXPECT_EQ(future.wait_for(std::chrono::minutes(1)), std::future_status::ready);
        };
      }
      EXPECT_TRUE(running.engine().Submit(request, sinks.back()).ok());
    }
    submitted.set_value();
    std::vector<std::string> transcripts;
    for (const auto& sink : sinks) transcripts.push_back(Transcript(*sink));
    EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
    running.engine().Stop(TimePoint::max());
    given_up_ = running.observer.given_up;
    preempted_ = running.observer.preempted;
    EXPECT_EQ(running.observer.first_tokens, static_cast<int>(requests.size()));
    EXPECT_EQ(running.observer.moot, 0);
    return transcripts;
  }

  void ExpectSame(const std::vector<std::string>& got, const std::vector<std::string>& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], wanted[i]) << "request " << i;
  }

  // Experts that wait, as one whose answer is late does, until the step is moot or `released_`. It
  // is the step thread's.
  void HangUntilMoot(RunningEngine& running, const std::function<bool()>& hangs) {
    running.experts.finish = [this, &running, hangs](const RoutedBatch&, float*) -> absl::Status {
      if (!hangs()) return absl::OkStatus();
      hanging_ = true;
      const TimePoint give_up = running.now() + std::chrono::minutes(1);
      while (!running.engine().StepIsMoot() && !released_) {
        if (running.now() > give_up) return absl::InternalError("the step was never moot");
        std::this_thread::yield();
      }
      hanging_ = false;
      return released_ ? absl::OkStatus() : absl::AbortedError("the step was given up");
    };
  }
  void WaitUntilHanging(RunningEngine& running) {
    const TimePoint give_up = running.now() + std::chrono::minutes(1);
    while (!hanging_ && running.now() < give_up) std::this_thread::yield();
    EXPECT_TRUE(hanging_);
  }

  const uint64_t seed_ = testing::RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_, .four_bit = true}};
  EngineSettings settings_;
  int given_up_ = 0, preempted_ = 0;
  std::atomic<bool> hanging_{false}, released_{false};

 private:
  absl::Status Fault(double share) {
    if (std::uniform_real_distribution<>(0, 1)(faults_) >= share) return absl::OkStatus();
    if (faults_() % 2 == 0) return absl::AbortedError("given up");
    return absl::UnavailableError("layer 1 expert 3: workers 0 and 1 do not answer");
  }
  std::mt19937_64 faults_{seed_ + 1};  // of the step thread
};

TEST_F(GivenUpStep, ChangesNoOutput) {
  const std::vector<GenerationRequest> requests = MixedRequests(random_, 32);
  const std::vector<std::string> wanted = Run(requests, settings_, 0);
  EXPECT_EQ(given_up_, 0);
  for (const double share : {0.1, 0.4}) {
    SCOPED_TRACE(share);
    ExpectSame(Run(requests, settings_, share), wanted);
    EXPECT_GT(given_up_, 0);
  }
  EngineSettings chunks = settings_;
  chunks.engine.max_num_batched_tokens = 7;
  ExpectSame(Run(requests, chunks, 0.1), wanted);
}

TEST_F(GivenUpStep, ChangesNoOutputAmongPreemptions) {
  const std::vector<GenerationRequest> requests = MixedRequests(random_, 32);
  const std::vector<std::string> wanted = Run(requests, settings_, 0);
  EngineSettings small = settings_;
  small.num_blocks = 18;
  small.block_size = 8;
  ExpectSame(Run(requests, small, 0.1), wanted);
  EXPECT_GT(given_up_, 0);
  EXPECT_GT(preempted_, 0);
}

TEST_F(GivenUpStep, IsMootWhenNobodyIsLeftInItAndTheOthersGoOn) {
  RunningEngine running(checkpoint_, settings_);
  std::atomic<int> left{1};
  HangUntilMoot(running, [&] { return left-- > 0; });
  GenerationRequest request = RandomRequest(random_, 9, 20);
  request.logprobs = 2;
  const auto gone = std::make_shared<RecordingSink>();
  // The other waits in the queue of a step thread that hangs with the first one.
  const SequenceId id = *running.engine().Submit(RandomRequest(random_, 9, 20), gone);
  WaitUntilHanging(running);
  const auto stays = running.Start(request);
  EXPECT_TRUE(hanging_);
  running.engine().Cancel(id);
  EXPECT_EQ(gone->WaitForEnd().reason, FinishReason::kCancelled);
  EXPECT_EQ(stays->WaitForEnd().completion_tokens, 20);
  EXPECT_EQ(running.observer.moot, 1);

  // Both in one step: the client that left knows at once, the step is not given up.
  left = 0;
  const auto again = std::make_shared<RecordingSink>();
  const auto beside = std::make_shared<RecordingSink>();
  std::promise<void> both;
  again->on_token = [&, future = both.get_future().share()](size_t count) {
    EXPECT_EQ(future.wait_for(std::chrono::minutes(1)), std::future_status::ready);
    if (count == 5) left = 1;
  };
  ASSERT_TRUE(running.engine().Submit(request, again).ok());
  const SequenceId other = *running.engine().Submit(RandomRequest(random_, 9, 50), beside);
  both.set_value();
  WaitUntilHanging(running);
  running.engine().Cancel(other);
  EXPECT_EQ(beside->WaitForEnd().reason, FinishReason::kCancelled);
  EXPECT_TRUE(hanging_);
  released_ = true;
  EXPECT_EQ(Transcript(*again), Transcript(*stays));
  EXPECT_EQ(running.observer.moot, 1);
  EXPECT_EQ(running.observer.ended_inside, 2);
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_F(GivenUpStep, IsMootAtADeadline) {
  ManualClock clock;
  settings_.clock = &clock;
  RunningEngine running(checkpoint_, settings_);
  HangUntilMoot(running, [] { return true; });
  GenerationRequest request = RandomRequest(random_, 9, 20);
  request.deadline = running.now() + std::chrono::seconds(5);
  const auto late = running.Start(request);
  WaitUntilHanging(running);
  clock.Advance(std::chrono::milliseconds(4999));
  EXPECT_FALSE(late->ended());
  clock.Advance(std::chrono::milliseconds(1));
  EXPECT_EQ(late->WaitForEnd().status.code(), absl::StatusCode::kDeadlineExceeded);
  running.engine().Stop(TimePoint::max());  // a client knows before its blocks are free
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_F(GivenUpStep, IsMootWhenTheEngineStops) {
  ManualClock clock;
  settings_.clock = &clock;
  RunningEngine running(checkpoint_, settings_);
  HangUntilMoot(running, [] { return true; });
  const auto cut = running.Start(RandomRequest(random_, 9, 20));
  WaitUntilHanging(running);
  std::thread stop([&] { running.engine().Stop(running.now() + std::chrono::seconds(3)); });
  while (running.engine().accepting()) std::this_thread::yield();
  EXPECT_FALSE(cut->ended()) << "it drains";
  clock.Advance(std::chrono::seconds(3));
  EXPECT_EQ(cut->WaitForEnd().status.code(), absl::StatusCode::kUnavailable);
  stop.join();
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_F(GivenUpStep, WaitingForTheClusterCancelAndDeadlineAreKept) {
  RunningEngine running(checkpoint_, settings_);
  running.experts.finish = [&](const RoutedBatch&, float*) -> absl::Status {
    running.SetCluster(absl::UnavailableError("layer 2 expert 7 is nowhere"));
    return absl::UnavailableError("layer 2 expert 7: worker 1 is gone");
  };
  const auto cancelled = std::make_shared<RecordingSink>();
  const SequenceId id = *running.engine().Submit(RandomRequest(random_, 9, 20), cancelled);
  GenerationRequest hurried = RandomRequest(random_, 9, 20);
  hurried.deadline = running.now() + std::chrono::milliseconds(30);
  EXPECT_EQ(running.Start(hurried)->WaitForEnd().status.code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(cancelled->ended());
  running.engine().Cancel(id);
  EXPECT_EQ(cancelled->WaitForEnd().reason, FinishReason::kCancelled);
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
  EXPECT_GE(running.observer.given_up, 1);
}

TEST_F(GivenUpStep, AWakeEndsTheWaitForTheNextTry) {
  settings_.engine.retry.first_wait = settings_.engine.retry.longest_wait = std::chrono::hours(1);
  RunningEngine running(checkpoint_, settings_);
  std::atomic<bool> lost{true};
  std::atomic<int> tries{0};
  running.experts.finish = [&](const RoutedBatch&, float*) -> absl::Status {
    if (!lost) return absl::OkStatus();
    ++tries;
    return absl::UnavailableError("layer 2 expert 7: worker 1 is gone");
  };
  const auto sink = running.Start(RandomRequest(random_, 9, 20));
  const TimePoint give_up = running.now() + std::chrono::minutes(1);
  while (tries < 2 && running.now() < give_up) std::this_thread::yield();
  lost = false;
  running.engine().Wake();
  EXPECT_EQ(sink->WaitForEnd().completion_tokens, 20);
  EXPECT_EQ(tries, 2);
}

TEST_F(GivenUpStep, IsNotTriedForEver) {
  ManualClock clock;
  settings_.clock = &clock;
  settings_.engine.max_unready_wait = std::chrono::seconds(60);
  RunningEngine running(checkpoint_, settings_);
  std::atomic<int> tries{0};
  running.experts.finish = [&](const RoutedBatch&, float*) -> absl::Status {
    ++tries;
    return absl::UnavailableError("layer 2 expert 7: worker 1 is gone");
  };
  const auto first = running.Start(RandomRequest(random_, 9, 20));
  const TimePoint give_up = SteadyClock().Now() + std::chrono::minutes(1);
  const auto wait_for_tries = [&](int count) {
    while (tries < count && SteadyClock().Now() < give_up) std::this_thread::yield();
    ASSERT_GE(tries, count);
  };
  wait_for_tries(1);
  clock.Advance(std::chrono::seconds(59));
  const auto second = running.Start(RandomRequest(random_, 9, 20));
  for (int i = 0; i < 2; ++i) {
    const int before = tries;
    running.engine().Wake();
    wait_for_tries(before + 1);
  }
  EXPECT_FALSE(first->ended());
  clock.Advance(std::chrono::seconds(1));
  EXPECT_EQ(first->WaitForEnd().status,
            absl::UnavailableError("layer 2 expert 7: worker 1 is gone"));
  EXPECT_FALSE(second->ended()) << "it has waited for a second only";
  clock.Advance(std::chrono::seconds(59));
  EXPECT_EQ(second->WaitForEnd().status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

}  // namespace
}  // namespace sheaf

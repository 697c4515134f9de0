#include "router/schedule/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/schedule/engine_fixture.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::EngineSettings;
using testing::RandomRequest;
using testing::RecordingSink;
using testing::RunningEngine;
using testing::TinyCheckpoint;

class EngineTest : public ::testing::Test {
 protected:
  const uint64_t seed_ = testing::RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_}};
};

TEST_F(EngineTest, GeneratesAndReportsWhatItDid) {
  RunningEngine running(checkpoint_, {});
  const auto sink = running.Start(RandomRequest(random_, 20, 12));
  const GenerationEnd end = sink->WaitForEnd();
  EXPECT_EQ(end.reason, FinishReason::kLength);
  EXPECT_EQ(end.prompt_tokens, 20);
  EXPECT_EQ(end.completion_tokens, 12);
  EXPECT_EQ(sink->tokens().size(), 12u);
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.observer.first_tokens, 1);
  EXPECT_EQ(running.observer.next_tokens, 11);
  EXPECT_EQ(running.observer.steps, 12);
  EXPECT_EQ(running.observer.ends, 1);
}

TEST_F(EngineTest, KeepsTheLimitsOfAStep) {
  EngineSettings settings;
  settings.engine.max_num_seqs = 5;
  settings.engine.max_num_batched_tokens = 33;
  RunningEngine running(checkpoint_, settings);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 20; ++i) sinks.push_back(running.Start(RandomRequest(random_, 30, 10)));
  for (const auto& sink : sinks) EXPECT_EQ(sink->WaitForEnd().completion_tokens, 10);
  // Beside decodes prompts come in by time: how many run at once is the machine's business too.
  EXPECT_LE(running.observer.most_sequences, 5);
  EXPECT_GT(running.observer.most_sequences, 1);
  EXPECT_LE(running.observer.most_tokens, 33);
}

TEST_F(EngineTest, RefusesWhatCannotRun) {
  EngineSettings settings;
  settings.num_blocks = 4;
  RunningEngine running(checkpoint_, settings);
  const auto submit = [&](GenerationRequest request) {
    return running.engine()
        .Submit(std::move(request), std::make_shared<RecordingSink>())
        .status()
        .code();
  };
  EXPECT_EQ(submit(RandomRequest(random_, 60, 6)), absl::StatusCode::kInvalidArgument) << "cache";
  EXPECT_EQ(submit(RandomRequest(random_, 300, 1)), absl::StatusCode::kInvalidArgument)
      << "context";
  GenerationRequest request = RandomRequest(random_, 3, 1);
  request.prompt.Set(1, 278);
  EXPECT_EQ(submit(request), absl::StatusCode::kInvalidArgument) << "vocabulary";
  request = RandomRequest(random_, 3, 1);
  request.stop.stop_strings = {""};
  EXPECT_EQ(submit(request), absl::StatusCode::kInvalidArgument) << "empty stop string";
  EXPECT_EQ(submit(RandomRequest(random_, 60, 5)), absl::StatusCode::kOk);
}

// Holds the step thread at the first token of one request, so that others wait.
class Blocker {
 public:
  Blocker(RunningEngine& running, std::mt19937_64& random) {
    sink_->on_token = [this](size_t) {
      std::unique_lock lock(mutex_);
      reached_ = true;
      changed_.notify_all();
      changed_.wait_for(lock, std::chrono::minutes(1), [&] { return released_; });
    };
    id_ = *running.engine().Submit(RandomRequest(random, 5, 100), sink_);
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::minutes(1), [&] { return reached_; }));
  }
  ~Blocker() { Release(); }
  void Release() {
    std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }
  RecordingSink& sink() { return *sink_; }
  SequenceId id() const { return id_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool reached_ = false, released_ = false;
  std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
  SequenceId id_;
};

TEST_F(EngineTest, AFullQueueRefusesAndEmptiesAgain) {
  EngineSettings settings;
  settings.engine.max_queued_requests = 3;
  RunningEngine running(checkpoint_, settings);
  Blocker blocker(running, random_);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 3; ++i) sinks.push_back(running.Start(RandomRequest(random_, 5, 2)));
  EXPECT_EQ(running.engine()
                .Submit(RandomRequest(random_, 5, 2), std::make_shared<RecordingSink>())
                .status()
                .code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_GE(running.engine().RetryAfter(), std::chrono::seconds(1));
  blocker.Release();
  for (const auto& sink : sinks) EXPECT_TRUE(sink->WaitForEnd().status.ok());
  EXPECT_EQ(running.Start(RandomRequest(random_, 5, 2))->WaitForEnd().completion_tokens, 2);
}

TEST_F(EngineTest, CancelFreesTheBlocksWithinAStep) {
  RunningEngine running(checkpoint_, {});
  Blocker blocker(running, random_);
  const auto queued = std::make_shared<RecordingSink>();
  const SequenceId queued_id = *running.engine().Submit(RandomRequest(random_, 50, 50), queued);
  running.engine().Cancel(blocker.id());
  running.engine().Cancel(queued_id);
  running.engine().Cancel(SequenceId(12345));
  blocker.Release();
  const GenerationEnd end = blocker.sink().WaitForEnd();
  EXPECT_EQ(end.reason, FinishReason::kCancelled);
  EXPECT_EQ(end.completion_tokens, 1) << "not one step more";
  EXPECT_EQ(queued->WaitForEnd().reason, FinishReason::kCancelled);
  EXPECT_TRUE(queued->tokens().empty());
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_F(EngineTest, DeadlinesEndQueuedAndRunningRequests) {
  EngineSettings settings;
  settings.engine.max_num_seqs = 1;
  RunningEngine running(checkpoint_, settings);
  Blocker blocker(running, random_);
  GenerationRequest request = RandomRequest(random_, 5, 5);
  request.deadline = running.now();
  const auto queued = running.Start(request);
  blocker.Release();
  GenerationEnd end = queued->WaitForEnd();
  EXPECT_EQ(end.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(end.reason, FinishReason::kError);
  EXPECT_EQ(blocker.sink().WaitForEnd().reason, FinishReason::kLength)
      << "a neighbour is not disturbed";

  const auto late = std::make_shared<RecordingSink>();
  request = RandomRequest(random_, 5, 20);
  request.deadline = running.now() + std::chrono::milliseconds(100);
  late->on_token = [&](size_t) {
    while (running.now() < *request.deadline) std::this_thread::yield();
  };
  ASSERT_TRUE(running.engine().Submit(request, late).ok());
  end = late->WaitForEnd();
  EXPECT_EQ(end.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LE(end.completion_tokens, 1);
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_F(EngineTest, AnErrorOfTheExpertsEndsTheRequestsOfTheStepAndTheEngineGoesOn) {
  RunningEngine running(checkpoint_, {});
  std::atomic<bool> broken{false};
  running.experts.finish = [&](const RoutedBatch&, float*) -> absl::Status {
    return broken ? absl::InternalError("two workers disagree at layer 2") : absl::OkStatus();
  };
  const auto first = std::make_shared<RecordingSink>();
  first->on_token = [&](size_t count) { broken = count >= 3; };
  ASSERT_TRUE(running.engine().Submit(RandomRequest(random_, 9, 100), first).ok());
  const GenerationEnd end = first->WaitForEnd();
  EXPECT_EQ(end.reason, FinishReason::kError);
  EXPECT_EQ(end.status, absl::InternalError("two workers disagree at layer 2"));
  EXPECT_EQ(end.completion_tokens, 3) << "no token of the broken step";
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
  EXPECT_EQ(running.observer.given_up, 0);
  broken = false;
  EXPECT_EQ(running.Start(RandomRequest(random_, 9, 4))->WaitForEnd().completion_tokens, 4);
}

TEST_F(EngineTest, BrokenNumbersEndTheirRequestAlone) {
  RunningEngine running(checkpoint_, {});
  Blocker blocker(running, random_);  // so that the two below start in one step
  // Spoils the first prompt's last row of each step. Its 10 rows follow the blocker's one, before
  // any of the other prompt, which is longer; in as many steps as the plan takes.
  StepId step;
  int rows_left = 10, rows = 0;
  running.experts.finish = [&](const RoutedBatch& batch, float* sum) -> absl::Status {
    if (batch.step != step) {
      step = batch.step;
      rows = std::min(batch.x.num_rows - 1, rows_left);
      rows_left -= rows;
    }
    if (rows > 0) sum[size_t(rows) * batch.x.k] = std::nanf("");
    return absl::OkStatus();
  };
  GenerationRequest request = RandomRequest(random_, 10, 5);
  request.logprobs = 1;
  const auto spoiled = running.Start(request);
  const auto healthy = running.Start(RandomRequest(random_, 20, 5));
  blocker.Release();
  const GenerationEnd end = spoiled->WaitForEnd();
  EXPECT_EQ(end.status.code(), absl::StatusCode::kInternal) << end.status;
  EXPECT_TRUE(spoiled->tokens().empty());
  EXPECT_EQ(healthy->WaitForEnd().completion_tokens, 5);
  EXPECT_EQ(blocker.sink().WaitForEnd().completion_tokens, 100);
}

TEST_F(EngineTest, WhileTheClusterIsNotReadyNothingRunsAndWhatWaitsGoesOnAfterwards) {
  RunningEngine running(checkpoint_, {});
  Blocker blocker(running, random_);
  const auto queued = running.Start(RandomRequest(random_, 5, 3));
  GenerationRequest hurried = RandomRequest(random_, 5, 3);
  hurried.deadline = running.now() + std::chrono::milliseconds(30);
  const auto late = running.Start(hurried);
  running.SetCluster(absl::UnavailableError("worker 0 has not joined"));
  EXPECT_FALSE(running.engine().ready());
  const int steps = running.observer.steps;
  blocker.Release();
  // It was ready once, so it takes requests for when it will be again.
  EXPECT_TRUE(running.engine().accepting());
  const auto taken = running.Start(RandomRequest(random_, 5, 3));
  // Deadlines are kept although nothing runs.
  EXPECT_EQ(late->WaitForEnd().status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(running.observer.steps, steps);
  EXPECT_FALSE(queued->ended());
  running.SetCluster(absl::OkStatus());
  EXPECT_TRUE(running.engine().ready());
  EXPECT_EQ(queued->WaitForEnd().completion_tokens, 3);
  EXPECT_EQ(taken->WaitForEnd().completion_tokens, 3);
  EXPECT_EQ(blocker.sink().WaitForEnd().completion_tokens, 100);
}

TEST_F(EngineTest, ARouterThatNeverWasReadyRefuses) {
  EngineSettings settings;
  settings.cluster = absl::FailedPreconditionError("experts are missing: 3 of 12");
  RunningEngine running(checkpoint_, settings);
  EXPECT_FALSE(running.engine().accepting());
  EXPECT_EQ(running.engine()
                .Submit(RandomRequest(random_, 5, 3), std::make_shared<RecordingSink>())
                .status(),
            absl::UnavailableError("experts are missing: 3 of 12"));
  running.SetCluster(absl::OkStatus());
  EXPECT_TRUE(running.engine().accepting());
  EXPECT_EQ(running.Start(RandomRequest(random_, 5, 3))->WaitForEnd().completion_tokens, 3);
}

TEST_F(EngineTest, AnUnreadyClusterIsNotWaitedForForEver) {
  EngineSettings settings;
  settings.engine.max_unready_wait = std::chrono::milliseconds(20);
  RunningEngine running(checkpoint_, settings);
  Blocker blocker(running, random_);
  const auto queued = running.Start(RandomRequest(random_, 5, 3));
  running.SetCluster(absl::FailedPreconditionError("experts are missing"));
  blocker.Release();
  EXPECT_EQ(queued->WaitForEnd().status, absl::UnavailableError("experts are missing"));
  EXPECT_EQ(blocker.sink().WaitForEnd().status, absl::UnavailableError("experts are missing"));
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_F(EngineTest, TheChoicesOfARequestAreTakenTogetherOrNotAtAll) {
  EngineSettings settings;
  settings.engine.max_queued_requests = 3;
  RunningEngine running(checkpoint_, settings);
  const auto submit = [&](int good, int bad) {
    std::vector<GenerationEngine::Submission> choices;
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (int i = 0; i < good + bad; ++i) {
      sinks.push_back(std::make_shared<RecordingSink>());
      choices.push_back({RandomRequest(random_, i < good ? 5 : 1000, 3), sinks.back()});
    }
    const auto ids = running.engine().SubmitAll(std::move(choices));
    if (ids.ok()) {
      EXPECT_EQ(ids->size(), sinks.size());
      for (const auto& sink : sinks) EXPECT_EQ(sink->WaitForEnd().completion_tokens, 3);
    } else {
      for (const auto& sink : sinks) EXPECT_EQ(sink.use_count(), 1) << "nobody holds it";
    }
    return ids.status().code();
  };
  EXPECT_EQ(submit(3, 0), absl::StatusCode::kOk);
  EXPECT_EQ(submit(2, 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(submit(4, 0), absl::StatusCode::kInvalidArgument);
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.observer.ends, 3);
}

TEST_F(EngineTest, StopDrainsThenEndsWhatIsLeft) {
  RunningEngine running(checkpoint_, {});
  const auto drained = running.Start(RandomRequest(random_, 5, 20));
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(drained->WaitForEnd().completion_tokens, 20);
  EXPECT_EQ(running.engine()
                .Submit(RandomRequest(random_, 5, 2), std::make_shared<RecordingSink>())
                .status()
                .code(),
            absl::StatusCode::kUnavailable);
  EXPECT_FALSE(running.engine().ready());

  auto cut = std::make_shared<RecordingSink>();
  {
    RunningEngine other(checkpoint_, {});
    ASSERT_TRUE(other.engine().Submit(RandomRequest(random_, 5, 250), cut).ok());
    cut->WaitForTokens(1);
    other.engine().Stop(other.now());
    EXPECT_EQ(cut->WaitForEnd().status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(other.engine().free_kv_blocks(), other.num_blocks());
  }
}

TEST_F(EngineTest, NoLoadLeaksABlock) {
  EngineSettings settings;
  settings.num_blocks = 30;
  settings.block_size = 8;
  settings.engine.max_num_seqs = 9;
  settings.engine.max_num_batched_tokens = 50;
  settings.engine.target_step_ms = 1000;  // as many at once as blocks allow, and more
  settings.engine.max_queued_requests = 1000;
  RunningEngine running(checkpoint_, settings);
  std::atomic<int> finishes{0};
  running.experts.finish = [&](const RoutedBatch&, float*) -> absl::Status {
    return ++finishes % 97 == 0 ? absl::UnavailableError("worker 0 died") : absl::OkStatus();
  };
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<SequenceId> ids;
  for (int i = 0; i < 300; ++i) {
    GenerationRequest request = RandomRequest(random_, 1 + random_() % 60, 1 + random_() % 40);
    if (random_() % 10 == 0)
      request.deadline = running.now() + std::chrono::milliseconds(random_() % 50);
    if (random_() % 5 == 0) request.prompt_logprobs = 1;
    auto sink = std::make_shared<RecordingSink>();
    if (random_() % 4 == 0) {
      // Cancels itself from its own callback, as a client that goes away in the middle.
      auto id = std::make_shared<std::atomic<uint64_t>>(0);
      sink->on_token = [&running, id, at = 1 + random_() % 10](size_t count) {
        if (count == at && *id != 0) running.engine().Cancel(SequenceId(*id));
      };
      request.deadline.reset();
      *id = running.engine().Submit(request, sink)->value();
      ids.push_back(SequenceId(*id));
    } else {
      const auto submitted = running.engine().Submit(request, sink);
      if (absl::IsDeadlineExceeded(submitted.status())) continue;  // it could not end in time
      ids.push_back(*submitted);
    }
    sinks.push_back(sink);
    if (random_() % 6 == 0) running.engine().Cancel(ids[random_() % ids.size()]);
  }
  for (const auto& sink : sinks) sink->WaitForEnd();
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
  EXPECT_EQ(running.observer.ends, static_cast<int>(sinks.size()));
  EXPECT_GT(running.observer.preempted, 0);
}

}  // namespace
}  // namespace sheaf

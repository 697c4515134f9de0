// Requests that end in the middle of a step: their clients know before it is over, their blocks are
// free when their rows have left it, nobody else gets anything else, and nobody's work is given up.

#include <gtest/gtest.h>

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

class EndingInStep : public ::testing::TestWithParam<bool> {
 protected:
  // Requests that start together: the first token waits until all are there.
  struct Together {
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    std::vector<SequenceId> ids;
    std::promise<void> submitted;
  };
  void Submit(RunningEngine& running, const std::vector<GenerationRequest>& requests,
              Together& all) {
    for (const GenerationRequest& request : requests) {
      all.sinks.push_back(std::make_shared<RecordingSink>());
      if (all.sinks.size() == 1) {
        all.sinks[0]->on_token = [future = all.submitted.get_future().share()](size_t) {
          EXPECT_EQ(future.wait_for(std::chrono::minutes(1)), std::future_status::ready);
        };
      }
      const auto id = running.engine().Submit(request, all.sinks.back());
      ASSERT_TRUE(id.ok()) << id.status();
      all.ids.push_back(*id);
    }
    all.submitted.set_value();
  }

  const uint64_t seed_ = testing::RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_, .four_bit = true, .latent = GetParam()}};
  EngineSettings settings_;
};

TEST_P(EndingInStep, ChangesNobodysOutput) {
  const int kCount = 24;
  const std::vector<GenerationRequest> requests = MixedRequests(random_, kCount);
  settings_.engine.eos_token_ids = {testing::kEndOfText};
  std::vector<std::string> wanted;
  {
    RunningEngine running(checkpoint_, settings_);
    Together all;
    Submit(running, requests, all);
    for (const auto& sink : all.sinks) wanted.push_back(Transcript(*sink));
  }
  // Whom a cancel meets in the middle of a step is a matter of chance: of many plays, some.
  int cancelled = 0, ended_inside = 0;
  for (const int chunk : {256, 40, 256, 40}) {
    EngineSettings settings = settings_;
    settings.engine.max_num_batched_tokens = chunk;
    RunningEngine running(checkpoint_, settings);
    Together all;
    std::promise<void> all_are_there;
    // Every third may be cancelled, in any layer of any step.
    running.experts.begin = [&, future = all_are_there.get_future().share()](const RoutedBatch&) {
      EXPECT_EQ(future.wait_for(std::chrono::minutes(1)), std::future_status::ready);
      if (random_() % 20 == 0) {
        running.engine().Cancel(all.ids[3 * (random_() % (kCount / 3))]);
      }
      return absl::OkStatus();
    };
    Submit(running, requests, all);
    all_are_there.set_value();
    for (int i = 0; i < kCount; ++i) {
      const std::string got = Transcript(*all.sinks[i]);
      const bool is_cancelled = all.sinks[i]->WaitForEnd().reason == FinishReason::kCancelled;
      EXPECT_TRUE(!is_cancelled || i % 3 == 0) << i;
      cancelled += is_cancelled;
      EXPECT_TRUE(is_cancelled || got == wanted[i]) << "request " << i;
    }
    running.engine().Stop(TimePoint::max());
    // Only now: a client knows before its blocks are free.
    EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
    ended_inside += running.observer.ended_inside;
    EXPECT_EQ(running.observer.ends, kCount);
    EXPECT_EQ(running.observer.given_up, running.observer.moot) << "only where nobody was left";
  }
  EXPECT_GT(cancelled, 0);
  EXPECT_GT(ended_inside, 0);
}

TEST_P(EndingInStep, TheClientKnowsAndTheBlocksAreFreeBeforeTheStepIsOver) {
  RunningEngine running(checkpoint_, settings_);
  const auto stays = std::make_shared<RecordingSink>();
  const auto goes = std::make_shared<RecordingSink>();
  std::atomic<bool> stays_decodes{false};
  stays->on_token = [&](size_t) { stays_decodes = true; };
  std::promise<void> submitted;
  std::atomic<uint64_t> victim{0};
  int rows_before = 0;
  int free_before = 0;
  int layers_seen = 0;
  running.experts.begin = [&, future = submitted.get_future().share()](const RoutedBatch& batch) {
    // Nobody is done before both are there.
    EXPECT_EQ(future.wait_for(std::chrono::minutes(1)), std::future_status::ready);
    const bool is_first_layer = batch.layer.value() == checkpoint_.config().num_dense_layers;
    if (rows_before == 0 && stays_decodes && is_first_layer && batch.x.num_rows > 1) {
      rows_before = batch.x.num_rows;  // one that stays, and some of the other's prompt
      free_before = running.engine().free_kv_blocks();
      running.engine().Cancel(SequenceId(victim));
      EXPECT_FALSE(goes->ended());
    } else if (rows_before > 0 && layers_seen++ == 0) {
      EXPECT_FALSE(is_first_layer);
      EXPECT_EQ(goes->WaitForEnd().reason, FinishReason::kCancelled);
      EXPECT_EQ(batch.x.num_rows, 1);
      EXPECT_GT(running.engine().free_kv_blocks(), free_before);
    }
    return absl::OkStatus();
  };
  ASSERT_TRUE(running.engine().Submit(RandomRequest(random_, 9, 60), stays).ok());
  // Many steps of prefill, however little of a step it gets.
  const auto id = running.engine().Submit(RandomRequest(random_, 180, 5), goes);
  ASSERT_TRUE(id.ok());
  victim = id->value();
  submitted.set_value();
  EXPECT_EQ(goes->WaitForEnd().reason, FinishReason::kCancelled);
  EXPECT_EQ(stays->WaitForEnd().completion_tokens, 60);
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(layers_seen > 0, rows_before > 0);
  EXPECT_GT(rows_before, 0);
  EXPECT_EQ(running.observer.given_up, 0);
}

TEST_P(EndingInStep, NobodyLeftEndsTheStep) {
  RunningEngine running(checkpoint_, settings_);
  std::atomic<uint64_t> victim{0};
  std::promise<void> known;
  int layers = 0;
  running.experts.begin = [&, future = known.get_future().share()](const RoutedBatch&) {
    if (++layers == 1) {
      EXPECT_EQ(future.wait_for(std::chrono::minutes(1)), std::future_status::ready);
      running.engine().Cancel(SequenceId(victim));
    }
    return absl::OkStatus();
  };
  const auto goes = std::make_shared<RecordingSink>();
  const auto id = running.engine().Submit(RandomRequest(random_, 100, 5), goes);
  ASSERT_TRUE(id.ok());
  victim = id->value();
  known.set_value();
  EXPECT_EQ(goes->WaitForEnd().reason, FinishReason::kCancelled);
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(layers, 1);
  EXPECT_EQ(running.observer.moot, 1);
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_P(EndingInStep, AStreamOfCancelsHoldsUpNobody) {
  settings_.engine.max_num_batched_tokens = 32;
  RunningEngine running(checkpoint_, settings_);
  std::vector<std::shared_ptr<RecordingSink>> others;
  std::vector<SequenceId> ids;
  std::atomic<bool> done{false};
  // One client sends and cancels in every layer.
  running.experts.begin = [&](const RoutedBatch&) {
    if (done) return absl::OkStatus();
    if (!ids.empty()) running.engine().Cancel(ids.back());
    others.push_back(std::make_shared<RecordingSink>());
    const auto id = running.engine().Submit(RandomRequest(random_, 40, 5), others.back());
    EXPECT_TRUE(id.ok());
    if (id.ok()) ids.push_back(*id);
    return absl::OkStatus();
  };
  const auto sink = std::make_shared<RecordingSink>();
  sink->on_token = [&](size_t count) { done = count == 8; };
  ASSERT_TRUE(running.engine().Submit(RandomRequest(random_, 200, 8), sink).ok());
  EXPECT_EQ(sink->WaitForEnd().completion_tokens, 8);
  running.engine().Stop(TimePoint::max());
  EXPECT_GT(others.size(), 10u);
  EXPECT_EQ(running.observer.given_up, running.observer.moot) << "none in which anybody was left";
  EXPECT_EQ(running.observer.ends, static_cast<int>(others.size()) + 1);
}

TEST_P(EndingInStep, ADeadlineAndTheEndOfAStopAreKept) {
  ManualClock clock;
  settings_.clock = &clock;
  settings_.engine.max_num_seqs = 2;
  RunningEngine running(checkpoint_, settings_);
  std::atomic<bool> hangs{false}, hanging{false};
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  // Steps last until all their sequences are over.
  running.experts.finish = [&](const RoutedBatch&, float*) -> absl::Status {
    if (!hangs) return absl::OkStatus();
    hanging = true;
    const TimePoint give_up = SteadyClock().Now() + std::chrono::minutes(1);
    while (!running.engine().StepIsMoot()) {
      if (SteadyClock().Now() > give_up) return absl::InternalError("the step was never moot");
      std::this_thread::yield();
    }
    return absl::AbortedError("the step was given up");
  };
  const auto long_one = running.Start(RandomRequest(random_, 9, 200));
  GenerationRequest hurried = RandomRequest(random_, 9, 200);
  hurried.deadline = running.now() + std::chrono::seconds(5);
  const auto late = running.Start(hurried);
  late->WaitForTokens(1);
  // No room for it: it waits in the queue.
  hurried.deadline = running.now() + std::chrono::seconds(6);
  const auto waits = running.Start(hurried);
  hangs = true;
  const TimePoint give_up = SteadyClock().Now() + std::chrono::minutes(1);
  while (!hanging && SteadyClock().Now() < give_up) std::this_thread::yield();
  clock.Advance(std::chrono::milliseconds(4999));
  EXPECT_FALSE(late->ended());
  clock.Advance(std::chrono::milliseconds(1));
  EXPECT_EQ(late->WaitForEnd().status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(waits->ended());
  clock.Advance(std::chrono::seconds(1));
  EXPECT_EQ(waits->WaitForEnd().status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(long_one->ended());
  std::thread stop([&] { running.engine().Stop(running.now() + std::chrono::seconds(3)); });
  while (running.engine().accepting()) std::this_thread::yield();
  EXPECT_FALSE(long_one->ended()) << "it drains";
  clock.Advance(std::chrono::seconds(3));
  EXPECT_EQ(long_one->WaitForEnd().status.code(), absl::StatusCode::kUnavailable);
  stop.join();
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

INSTANTIATE_TEST_SUITE_P(Attention, EndingInStep, ::testing::Bool(), [](const auto& kind) {
  return std::string(kind.param ? "Latent" : "GroupedQuery");
});

}  // namespace
}  // namespace sheaf

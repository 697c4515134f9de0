// An engine whose clients are told by other threads than the step thread: nothing a client sees
// depends on that.

#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <random>
#include <thread>

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

class DeliveringEngine : public ::testing::Test {
 protected:
  static EngineSettings With(int delivery_threads) {
    EngineSettings settings;
    settings.engine.eos_token_ids = {testing::kEndOfText};
    settings.engine.max_queued_requests = 1000;
    settings.engine.delivery_threads = delivery_threads;
    return settings;
  }

  std::vector<std::string> Run(const EngineSettings& settings,
                               const std::vector<GenerationRequest>& requests) {
    RunningEngine running(checkpoint_, settings);
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (const GenerationRequest& request : requests) sinks.push_back(running.Start(request));
    running.engine().Stop(TimePoint::max());
    std::vector<std::string> transcripts;
    int told = 0;
    for (const auto& sink : sinks) {
      EXPECT_TRUE(sink->ended()) << "Stop returns when everybody was told";
      told += static_cast<int>(sink->tokens().size());
      transcripts.push_back(Transcript(*sink));
    }
    EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
    EXPECT_EQ(running.observer.told, told) << "what runs beyond a stop string is not counted";
    EXPECT_EQ(running.observer.completion_tokens, told);
    EXPECT_EQ(running.observer.ends, static_cast<int>(requests.size()));
    return transcripts;
  }

  // Few tokens, so that stop strings and half characters are frequent.
  std::vector<GenerationRequest> StoppedRequests(int count) {
    std::vector<GenerationRequest> requests;
    for (int i = 0; i < count; ++i) {
      GenerationRequest request = RandomRequest(random_, 1 + random_() % 20, 60);
      request.sampling.allowed_token_ids = {'a', 'b', 0xC3, 0xA4};
      request.sampling.temperature = 3;
      request.stop.stop_strings = {"abab", "bb\u00e4", "aaaa"};
      request.stop.include_stop_string = i % 3 == 0;
      request.stop.min_tokens = i % 4 == 0 ? 12 : 0;
      if (i % 2 == 0) request.logprobs = 1;
      requests.push_back(std::move(request));
    }
    return requests;
  }

  const uint64_t seed_ = testing::RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_}};
};

TEST_F(DeliveringEngine, ClientsSeeTheSameWithAnyNumberOfThreads) {
  std::vector<GenerationRequest> requests = MixedRequests(random_, 16);
  for (GenerationRequest& request : StoppedRequests(16)) requests.push_back(std::move(request));
  const std::vector<std::string> alone = Run(With(0), requests);
  EXPECT_EQ(Run(With(1), requests), alone);
  EXPECT_EQ(Run(With(3), requests), alone);
}

TEST_F(DeliveringEngine, APreemptedSequenceMayEndByItsTextInTheQueue) {
  const std::vector<GenerationRequest> requests = StoppedRequests(40);
  const std::vector<std::string> alone = Run(With(0), requests);
  EngineSettings settings = With(2);
  settings.num_blocks = 12;
  settings.block_size = 8;
  EXPECT_EQ(Run(settings, requests), alone);
}

// The step thread runs on while the client is still told its first token.
TEST_F(DeliveringEngine, ASlowDeliveryEndsWhereAStopStringIs) {
  RunningEngine running(checkpoint_, With(1));
  GenerationRequest request = RandomRequest(random_, 5, 240);
  request.sampling.allowed_token_ids = {'a'};
  request.stop.stop_strings = {"aaa"};
  request.logprobs = 1;  // never told by the step thread itself, which the sink below keeps waiting
  const auto sink = std::make_shared<RecordingSink>();
  const auto wait_for = [&](const std::function<bool()>& condition) {
    const TimePoint give_up = running.now() + std::chrono::minutes(1);
    while (!condition() && running.now() < give_up) std::this_thread::yield();
  };
  sink->on_token = [&](size_t count) {
    if (count == 1) wait_for([&] { return running.observer.steps >= 10; });
  };
  running.experts.begin = [&](const RoutedBatch&) {
    if (running.observer.steps >= 12) wait_for([&] { return sink->ended(); });
    return absl::OkStatus();
  };
  ASSERT_TRUE(running.engine().Submit(request, sink).ok());
  const GenerationEnd end = sink->WaitForEnd();
  EXPECT_EQ(end.completion_tokens, 3);
  EXPECT_EQ(end.stop_string, "aaa");
  running.engine().Stop(TimePoint::max());
  EXPECT_GE(running.observer.steps, 10);
  EXPECT_LT(running.observer.steps, 200) << "the step thread hears of it";
  EXPECT_EQ(running.observer.told, 3);
  EXPECT_EQ(sink->tokens().size(), 3u);
}

TEST_F(DeliveringEngine, ACancelOrAnErrorIsToldBehindTheTokens) {
  RunningEngine running(checkpoint_, With(2));
  const auto sink = std::make_shared<RecordingSink>();
  auto id = std::make_shared<std::promise<SequenceId>>();
  sink->on_token = [&running, future = id->get_future().share()](size_t count) {
    if (count == 5) running.engine().Cancel(future.get());
  };
  id->set_value(*running.engine().Submit(RandomRequest(random_, 5, 200), sink));
  const GenerationEnd end = sink->WaitForEnd();
  EXPECT_EQ(end.reason, FinishReason::kCancelled);
  EXPECT_EQ(sink->tokens().size(), static_cast<size_t>(end.completion_tokens));
  EXPECT_GE(end.completion_tokens, 5);
  // One that ends in the middle of a step is told before the step has let go of its blocks.
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_F(DeliveringEngine, PromptLogProbabilitiesLeaveChunkByChunk) {
  EngineSettings settings = With(1);
  settings.engine.max_num_batched_tokens = 32;
  RunningEngine running(checkpoint_, settings);
  GenerationRequest request = RandomRequest(random_, 200, 3);
  request.prompt_logprobs = 2;
  const auto sink = running.Start(request);
  EXPECT_TRUE(sink->WaitForEnd().status.ok());
  EXPECT_GE(sink->prompt_pieces(), 6u);
  ASSERT_EQ(sink->prompt_logprobs()->size(), 200u);
  EXPECT_FALSE(sink->prompt_logprobs()->front().has_value());
  for (size_t i = 1; i < 200; ++i) {
    ASSERT_EQ((*sink->prompt_logprobs())[i]->chosen.token, request.prompt[i]);
  }
}

TEST_F(DeliveringEngine, TheChoicesOfARequestHoldTheirPromptOnce) {
  RunningEngine running(checkpoint_, With(1));
  GenerationRequest request = RandomRequest(random_, 100, 3);
  const TokenId* const tokens = request.prompt.data();
  GenerationRequest copy = request;
  EXPECT_EQ(copy.prompt.data(), tokens);
  copy.prompt.push_back(1);
  EXPECT_NE(copy.prompt.data(), tokens);
  EXPECT_EQ(request.prompt.size(), 100u);
  std::vector<GenerationEngine::Submission> choices;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 4; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    choices.push_back({request, sinks.back()});
  }
  ASSERT_TRUE(running.engine().SubmitAll(std::move(choices)).ok());
  for (const auto& sink : sinks) EXPECT_EQ(sink->WaitForEnd().prompt_tokens, 100);
}

}  // namespace
}  // namespace sheaf

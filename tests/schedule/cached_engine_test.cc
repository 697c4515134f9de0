// The prefix cache in a real engine: what is not computed again changes no byte of any answer, and
// what has to be computed is no more than it should be.

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

class CachedEngine : public ::testing::Test {
 protected:
  CachedEngine() {
    settings_.threads = 1;
    settings_.engine.eos_token_ids = {testing::kEndOfText};
    settings_.engine.retry = {.poll = std::chrono::milliseconds(1),
                              .first_wait = std::chrono::microseconds(10),
                              .longest_wait = std::chrono::milliseconds(1)};
  }

  EngineSettings Without(EngineSettings settings) const {
    settings.engine.prefix_cache.enabled = false;
    return settings;
  }

  // Requests of every kind, of three families whose prompts begin alike; some with prior output.
  std::vector<GenerationRequest> AlikeRequests(int count) {
    std::vector<GenerationRequest> requests = MixedRequests(random_, count);
    const GenerationRequest families[3] = {RandomRequest(random_, 100, 1),
                                           RandomRequest(random_, 100, 1),
                                           RandomRequest(random_, 100, 1)};
    for (GenerationRequest& request : requests) {
      const auto& beginning = families[random_() % 3].prompt;
      const size_t shared = random_() % (beginning.size() + 1);
      std::vector<TokenId> prompt(beginning.begin(), beginning.begin() + shared);
      prompt.insert(prompt.end(), request.prompt.begin(), request.prompt.end());
      request.prompt = std::move(prompt);
      if (random_() % 4 == 0) request.cache_salt = "a user's own";
    }
    return requests;
  }

  // All at once: the first token of the first waits until all are submitted.
  std::vector<std::string> RunTogether(RunningEngine& running,
                                       const std::vector<GenerationRequest>& requests) {
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
    return transcripts;
  }

  std::vector<std::string> Run(const EngineSettings& settings,
                               const std::vector<GenerationRequest>& requests, int rounds = 1) {
    RunningEngine running(checkpoint_, settings);
    std::vector<std::string> transcripts;
    for (int round = 0; round < rounds; ++round) transcripts = RunTogether(running, requests);
    running.engine().Stop(TimePoint::max());
    hits_ = running.observer.hits;
    preempted_ = running.observer.preempted;
    evicted_ = running.observer.evicted_blocks;
    loaded_ = running.observer.loaded;
    return transcripts;
  }

  void ExpectSame(const std::vector<std::string>& got, const std::vector<std::string>& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], wanted[i]) << "request " << i;
  }

  const uint64_t seed_ = testing::RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_, .four_bit = true}};
  EngineSettings settings_;
  int hits_ = 0, preempted_ = 0, evicted_ = 0, loaded_ = 0;
};

TEST_F(CachedEngine, GivesTheSameBytesInEveryFormat) {
  const std::vector<GenerationRequest> requests = AlikeRequests(24);
  for (const kernels::KvFormat format :
       {kernels::KvFormat::kF32, kernels::KvFormat::kBF16, kernels::KvFormat::kFp8E4M3,
        kernels::KvFormat::kFp8E5M2}) {
    SCOPED_TRACE(kernels::KvFormatName(format));
    settings_.kv_format = format;
    const std::vector<std::string> wanted = Run(Without(settings_), requests);
    EXPECT_EQ(hits_, 0);
    ExpectSame(Run(settings_, requests), wanted);
    const int hits_once = hits_;
    EXPECT_GT(hits_once, 0);
    ExpectSame(Run(settings_, requests, 2), wanted);
    EXPECT_GT(hits_, 2 * hits_once) << "the second time nearly everything is there";
  }
}

TEST_F(CachedEngine, GivesTheSameBytesInAnyChunksAndBlocks) {
  const std::vector<GenerationRequest> requests = AlikeRequests(24);
  const std::vector<std::string> wanted = Run(Without(settings_), requests);
  for (const int chunk : {1, 7, 64}) {
    for (const int block_size : {1, 5, 48}) {
      SCOPED_TRACE(::testing::Message() << chunk << " tokens, blocks of " << block_size);
      EngineSettings settings = settings_;
      settings.engine.max_num_batched_tokens = chunk;
      settings.block_size = block_size;
      settings.num_blocks = 9600 / block_size;
      ExpectSame(Run(settings, requests), wanted);
      EXPECT_GT(hits_, 0);
    }
  }
}

TEST_F(CachedEngine, GivesTheSameBytesAmongPreemptionsAndEvictions) {
  const std::vector<GenerationRequest> requests = AlikeRequests(32);
  const std::vector<std::string> wanted = Run(Without(settings_), requests);
  settings_.num_blocks = 28;  // of 8 tokens: a request needs up to 26
  settings_.block_size = 8;
  ExpectSame(Run(settings_, requests, 3), wanted);
  EXPECT_GT(preempted_, 0);
  EXPECT_GT(evicted_, 0);
  EXPECT_GT(hits_, 0);
}

TEST_F(CachedEngine, GivesTheSameBytesWhenStepsAreGivenUp) {
  const std::vector<GenerationRequest> requests = AlikeRequests(24);
  const std::vector<std::string> wanted = Run(Without(settings_), requests);
  settings_.num_blocks = 80;
  settings_.block_size = 8;
  RunningEngine running(checkpoint_, settings_);
  std::mt19937_64 faults(seed_ + 1);
  running.experts.finish = [&](const RoutedBatch& batch, float* sum) -> absl::Status {
    if (faults() % 10 != 0) return absl::OkStatus();
    std::fill(sum, sum + size_t(batch.x.num_rows) * batch.x.k, std::nanf(""));
    return absl::UnavailableError("nobody holds expert 7");
  };
  ExpectSame(RunTogether(running, requests), wanted);
  ExpectSame(RunTogether(running, requests), wanted);
  EXPECT_GT(running.observer.given_up, 0);
  EXPECT_GT(running.observer.hits, 0);
}

TEST_F(CachedEngine, ReadsNothingThatAFailedStepWrote) {
  GenerationRequest request = RandomRequest(random_, 60, 8);
  std::string wanted;
  {
    RunningEngine running(checkpoint_, Without(settings_));
    wanted = Transcript(*running.Start(request));
  }
  RunningEngine running(checkpoint_, settings_);
  std::atomic<bool> broken{true};
  running.experts.finish = [&](const RoutedBatch& batch, float* sum) -> absl::Status {
    if (!broken) return absl::OkStatus();
    std::fill(sum, sum + size_t(batch.x.num_rows) * batch.x.k, 1e30f);
    return absl::DataLossError("a worker speaks nonsense");
  };
  EXPECT_EQ(running.Start(request)->WaitForEnd().status.code(), absl::StatusCode::kDataLoss);
  broken = false;
  const auto sink = running.Start(request);
  EXPECT_EQ(Transcript(*sink), wanted);
  EXPECT_EQ(sink->WaitForEnd().cached_tokens, 0);
}

TEST_F(CachedEngine, ForgetsEverythingWhenSomethingIsNotFinite) {
  // The first chunks of a prompt have no row of logits that would tell.
  GenerationRequest request = RandomRequest(random_, 60, 8);
  settings_.engine.max_num_batched_tokens = 16;
  RunningEngine running(checkpoint_, settings_);
  std::atomic<bool> broken{true};
  running.experts.finish = [&](const RoutedBatch& batch, float* sum) -> absl::Status {
    if (broken) std::fill(sum, sum + size_t(batch.x.num_rows) * batch.x.k, std::nanf(""));
    return absl::OkStatus();
  };
  EXPECT_EQ(running.Start(request)->WaitForEnd().status.code(), absl::StatusCode::kInternal);
  broken = false;
  const auto sink = running.Start(request);
  EXPECT_TRUE(sink->WaitForEnd().status.ok()) << sink->WaitForEnd().status;
  EXPECT_EQ(sink->WaitForEnd().cached_tokens, 0);
}

TEST_F(CachedEngine, SaysWhatWasCachedAndComputesOnlyTheRest) {
  RunningEngine running(checkpoint_, settings_);
  GenerationRequest request = RandomRequest(random_, 64, 20);
  const auto first = running.Start(request);
  EXPECT_EQ(first->WaitForEnd().cached_tokens, 0);
  const int once = running.observer.computed_tokens;
  EXPECT_EQ(once, 64 + 19);
  const auto second = running.Start(request);
  EXPECT_EQ(second->WaitForEnd().cached_tokens, 48) << "the last token is always computed";
  EXPECT_EQ(running.observer.computed_tokens - once, 16 + 19);
  // The next turn: prompt, answer and something new. 83 of the tokens have been computed.
  GenerationRequest turn = request;
  for (const TokenId token : first->tokens()) turn.prompt.push_back(token);
  for (int i = 0; i < 10; ++i) turn.prompt.push_back(static_cast<TokenId>(random_() % 256));
  EXPECT_EQ(running.Start(turn)->WaitForEnd().cached_tokens, 80);
  EXPECT_EQ(running.observer.looked_up, 64 + 64 + 94);
  EXPECT_EQ(running.observer.hits, 48 + 80);
  turn.cache_salt = "somebody else";
  EXPECT_EQ(running.Start(turn)->WaitForEnd().cached_tokens, 0);
  running.engine().ResetPrefixCache();
  turn.cache_salt.clear();
  EXPECT_EQ(running.Start(turn)->WaitForEnd().cached_tokens, 0);
  EXPECT_EQ(running.Start(turn)->WaitForEnd().cached_tokens, 80);
}

TEST_F(CachedEngine, ComputesAPromptOnceForAllItsChoices) {
  RunningEngine running(checkpoint_, settings_);
  GenerationRequest request = RandomRequest(random_, 100, 1);
  std::vector<GenerationEngine::Submission> choices;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 8; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    choices.push_back({request, sinks.back()});
  }
  ASSERT_TRUE(running.engine().SubmitAll(std::move(choices)).ok());
  EXPECT_EQ(sinks[0]->WaitForEnd().cached_tokens, 0);
  for (int i = 1; i < 8; ++i) EXPECT_EQ(sinks[i]->WaitForEnd().cached_tokens, 96);
  EXPECT_EQ(running.observer.computed_tokens, 100 + 7 * 4);
}

TEST_F(CachedEngine, SomebodyElseComputesWhatAWaitingOneWaitsFor) {
  // The one that computes the prompt is cancelled in its third chunk; the other, which has waited
  // for it meanwhile, goes on after the second.
  settings_.engine.max_num_batched_tokens = 32;
  RunningEngine running(checkpoint_, settings_);
  const GenerationRequest request = RandomRequest(random_, 100, 4);
  std::promise<void> in_second_chunk, in_third_chunk, submitted, cancelled;
  const auto wait = [](std::promise<void>& promise) {
    EXPECT_EQ(promise.get_future().wait_for(std::chrono::minutes(1)), std::future_status::ready);
  };
  int layers = 0;  // two with experts a step
  running.experts.finish = [&](const RoutedBatch&, float*) -> absl::Status {
    ++layers;
    if (layers == 3) {
      in_second_chunk.set_value();
      wait(submitted);
    } else if (layers == 5) {
      in_third_chunk.set_value();
      wait(cancelled);
      return absl::AbortedError("the step was given up");
    }
    return absl::OkStatus();
  };
  const auto gone = std::make_shared<RecordingSink>();
  const SequenceId id = *running.engine().Submit(request, gone);
  wait(in_second_chunk);
  const auto stays = running.Start(request);
  submitted.set_value();
  wait(in_third_chunk);
  running.engine().Cancel(id);
  cancelled.set_value();
  EXPECT_EQ(gone->WaitForEnd().reason, FinishReason::kCancelled);
  EXPECT_EQ(stays->WaitForEnd().cached_tokens, 64);
  EXPECT_EQ(stays->WaitForEnd().completion_tokens, 4);
  EXPECT_EQ(running.observer.most_sequences, 1) << "nothing was computed twice";
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_F(CachedEngine, ComputesEveryPositionWhoseLogProbabilitiesAreWanted) {
  RunningEngine running(checkpoint_, settings_);
  GenerationRequest request = RandomRequest(random_, 64, 4);
  running.Start(request)->WaitForEnd();
  request.prompt_logprobs = 1;
  const auto sink = running.Start(request);
  EXPECT_EQ(sink->WaitForEnd().cached_tokens, 0);
  ASSERT_TRUE(sink->prompt_logprobs().has_value());
  ASSERT_EQ(sink->prompt_logprobs()->size(), 64u);
  for (size_t i = 1; i < 64; ++i) EXPECT_TRUE((*sink->prompt_logprobs())[i].has_value()) << i;
}

TEST_F(CachedEngine, WhatWasPreemptedIsMostlyThere) {
  // Two sequences outgrow the cache; the younger gives way and comes back.
  settings_.block_size = 8;
  settings_.num_blocks = 20;
  settings_.engine.max_model_len = 120;
  RunningEngine running(checkpoint_, settings_);
  const auto a = running.Start(RandomRequest(random_, 40, 70));
  const auto b = running.Start(RandomRequest(random_, 40, 70));
  a->WaitForEnd();
  b->WaitForEnd();
  ASSERT_GE(running.observer.preempted, 1);
  EXPECT_LT(running.observer.computed_tokens, 2 * (40 + 69) + 40 * running.observer.preempted)
      << "more was computed again than had to be";
}

class SecondTierEngine : public CachedEngine {
 protected:
  SecondTierEngine() {
    settings_.num_blocks = 36;
    settings_.block_size = 8;
    settings_.engine.prefix_cache.copy_time = std::chrono::minutes(1);
  }
  std::unique_ptr<BlockStore> Store(int blocks, const std::string& directory = "") {
    const size_t bytes = KvCache::BlockBytes(checkpoint_.config(), {checkpoint_.all_heads()},
                                             settings_.kv_format, settings_.block_size);
    auto store = BlockStore::Create({blocks * bytes, directory, bytes});
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
};

TEST_F(SecondTierEngine, GivesTheSameBytes) {
  const std::vector<GenerationRequest> requests = AlikeRequests(32);
  const std::vector<std::string> wanted = Run(Without(settings_), requests);
  for (const bool file : {false, true}) {
    for (const kernels::KvFormat format : {kernels::KvFormat::kF32, kernels::KvFormat::kFp8E4M3}) {
      SCOPED_TRACE(::testing::Message() << (file ? "file, " : "memory, ")
                                        << kernels::KvFormatName(format));
      settings_.kv_format = format;
      const std::vector<std::string> without =
          format == kernels::KvFormat::kF32 ? wanted : Run(Without(settings_), requests);
      const auto store = Store(1000, file ? ::testing::TempDir() : "");
      settings_.block_store = store.get();
      ExpectSame(Run(settings_, requests, 2), without);
      EXPECT_GT(loaded_, 20);
      settings_.block_store = nullptr;
    }
  }
}

TEST_F(SecondTierEngine, KeepsNothingWithoutTime) {
  const auto store = Store(1000);
  settings_.block_store = store.get();
  settings_.engine.prefix_cache.copy_time = std::chrono::nanoseconds(0);
  RunningEngine running(checkpoint_, settings_);
  const GenerationRequest request = RandomRequest(random_, 200, 2);
  running.Start(request)->WaitForEnd();
  running.Start(RandomRequest(random_, 200, 2))->WaitForEnd();
  EXPECT_LT(running.Start(request)->WaitForEnd().cached_tokens, 192);
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.observer.kept, 0);
  EXPECT_EQ(store->size(), 0);
}

// Time that goes on by `tick` whenever somebody looks.
class TickingClock final : public Clock {
 public:
  TimePoint Now() const override { return TimePoint(Duration(now_ += tick)); }
  std::atomic<int64_t> tick{0};  // nanoseconds

 private:
  mutable std::atomic<int64_t> now_{1};
};

TEST_F(SecondTierEngine, BringsBackWhatWasEvictedHoweverLittleTimeAStepHas) {
  const auto store = Store(1000);
  TickingClock clock;
  settings_.clock = &clock;
  settings_.block_store = store.get();
  settings_.engine.prefix_cache.copy_time = std::chrono::nanoseconds(3);
  RunningEngine running(checkpoint_, settings_);
  const GenerationRequest request = RandomRequest(random_, 200, 2);
  const auto first = running.Start(request);
  first->WaitForEnd();
  running.Start(RandomRequest(random_, 200, 2))->WaitForEnd();
  EXPECT_GT(store->size(), 0);
  clock.tick = 1;  // a block or two a step
  const auto again = running.Start(request);
  EXPECT_EQ(again->WaitForEnd().cached_tokens, 192);
  EXPECT_EQ(again->tokens(), first->tokens());
  EXPECT_GT(running.observer.loaded, 3);
  running.engine().ResetPrefixCache();
  EXPECT_EQ(running.Start(request)->WaitForEnd().cached_tokens, 0);
}

}  // namespace
}  // namespace sheaf

// What a request gets depends on the request alone: the same ids, texts and log-probabilities, bit
// for bit, alone and among 31 others, in any chunks, preempted or not, with any number of threads.

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
using testing::RecordingSink;
using testing::RunningEngine;
using testing::TinyCheckpoint;
using testing::Transcript;

class EngineDeterminism : public ::testing::Test {
 protected:
  std::vector<std::string> Run(EngineSettings settings, bool together, int* preempted = nullptr,
                               bool with_logprobs = true) {
    settings.engine.eos_token_ids = {testing::kEndOfText};
    RunningEngine running(checkpoint_, settings);
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    // The first token waits until all are submitted, however slow this machine is.
    std::promise<void> submitted;
    for (const GenerationRequest& request : requests_) {
      sinks.push_back(std::make_shared<RecordingSink>());
      if (together && sinks.size() == 1) {
        sinks[0]->on_token = [future = submitted.get_future().share()](size_t) {
          EXPECT_EQ(future.wait_for(std::chrono::minutes(1)), std::future_status::ready);
        };
      }
      EXPECT_TRUE(running.engine().Submit(request, sinks.back()).ok());
      if (!together) sinks.back()->WaitForEnd();
    }
    submitted.set_value();
    std::vector<std::string> transcripts;
    for (const auto& sink : sinks) transcripts.push_back(Transcript(*sink, with_logprobs));
    EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
    if (preempted != nullptr) *preempted = running.observer.preempted;
    drafted_ = running.observer.drafted;
    drafts_accepted_ = running.observer.drafts_accepted;
    return transcripts;
  }

  void ExpectSame(const std::vector<std::string>& got) {
    ASSERT_EQ(got.size(), alone_.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], alone_[i]) << "request " << i;
  }

  void SetUp() override {
    EngineSettings settings;
    settings.threads = 1;
    alone_ = Run(settings, /*together=*/false);
  }

  const uint64_t seed_ = testing::RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_, .four_bit = true}};
  std::vector<GenerationRequest> requests_ = MixedRequests(random_, 32);
  std::vector<std::string> alone_;
  int drafted_ = 0, drafts_accepted_ = 0;  // tokens, of the last Run
};

TEST_F(EngineDeterminism, AmongOthersAsAlone) { ExpectSame(Run({}, true)); }

TEST_F(EngineDeterminism, InChunksOfAnySize) {
  for (int chunk : {1, 7, 64, 2048}) {
    SCOPED_TRACE(chunk);
    EngineSettings settings;
    settings.engine.max_num_batched_tokens = chunk;
    ExpectSame(Run(settings, true));
  }
}

TEST_F(EngineDeterminism, PreemptedOrNot) {
  EngineSettings settings;
  settings.num_blocks = 18;  // of 8 tokens: three or four of 32 requests
  settings.block_size = 8;
  int preempted = 0;
  ExpectSame(Run(settings, true, &preempted));
  EXPECT_GT(preempted, 0) << "the cache is small enough that some must give way";
}

TEST_F(EngineDeterminism, ForcedTokensAreTheSameOneByOneAndTogether) {
  // With log-probabilities each forced token has a row and a step of its own, without them a run is
  // one chunk.
  std::vector<std::string> transcripts[2];
  for (const bool logprobs : {false, true}) {
    for (GenerationRequest& request : requests_) {
      request.prompt_logprobs.reset();
      request.logprobs = logprobs ? std::optional(0) : std::nullopt;
    }
    transcripts[logprobs] = Run({}, true, nullptr, /*with_logprobs=*/false);
  }
  EXPECT_EQ(transcripts[0], transcripts[1]);
}

TEST_F(EngineDeterminism, DraftedOrNot) {
  for (GenerationRequest& request : requests_) {
    if (random_() % 2 == 0) request.sampling.temperature = 0;  // it repeats itself
    request.stop.max_tokens += 20;
  }
  alone_ = Run({}, true);
  EXPECT_EQ(drafted_, 0);
  for (const int chunk : {7, 64, 2048}) {
    SCOPED_TRACE(chunk);
    EngineSettings settings;
    settings.engine.max_num_batched_tokens = chunk;
    settings.engine.speculation = {
        .longest_draft = 6, .ngram = {.min_match = 1, .max_match = 3}, .always = true};
    settings.block_size = 8;
    settings.num_blocks = chunk == 64 ? 60 : 600;
    ExpectSame(Run(settings, true));
    if (chunk < 2048) continue;
    EXPECT_GT(drafts_accepted_, 0);
    EXPECT_GT(drafted_, drafts_accepted_) << "some are not what comes";
  }
}

TEST_F(EngineDeterminism, WithAnyNumberOfThreads) {
  EngineSettings settings;
  settings.threads = 3;
  ExpectSame(Run(settings, true));
}

}  // namespace
}  // namespace sheaf

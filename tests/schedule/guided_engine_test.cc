// Guides in a running engine: what they force, what they cost in steps, whom their errors concern.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "nlohmann/json.hpp"
#include "router/schedule/engine.h"
#include "router/text/guide/matcher_grammar.h"
#include "tests/schedule/engine_fixture.h"
#include "tests/schedule/random_guide.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::EngineSettings;
using testing::RandomGrammar;
using testing::RandomPlan;
using testing::RandomRequest;
using testing::RecordingSink;
using testing::RunningEngine;
using testing::Spelled;
using testing::TinyCheckpoint;
using testing::ToyGrammar;
using testing::ToyGrammarSpec;

constexpr TokenId kEos = testing::kEndOfText;

class GuidedEngineTest : public ::testing::Test {
 protected:
  GuidedEngineTest() { settings_.engine.eos_token_ids = {kEos}; }

  GenerationRequest Guided(ToyGrammarSpec grammar, int max_tokens = 100) {
    GenerationRequest request = RandomRequest(random_, 5 + random_() % 20, max_tokens);
    request.stop.ignore_eos = false;
    auto plan = std::make_shared<GuidePlan>();
    plan->grammar = std::make_shared<ToyGrammar>(std::move(grammar));
    request.guide = std::move(plan);
    return request;
  }

  const uint64_t seed_ = testing::RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_}};
  EngineSettings settings_;
};

TEST_F(GuidedEngineTest, AForcedRunIsOneStep) {
  const std::string text = "the text of forty characters that is all";
  RunningEngine running(checkpoint_, settings_);
  const GenerationRequest request = Guided({Spelled(text)});
  const auto sink = running.Start(request);
  const GenerationEnd end = sink->WaitForEnd();
  EXPECT_EQ(end.reason, FinishReason::kStop) << end.status;
  EXPECT_EQ(end.completion_tokens, 41);
  EXPECT_EQ(sink->text(), text);
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.observer.steps, 2) << "the prompt, then the run";
  EXPECT_EQ(running.observer.forced_tokens, 40);
  EXPECT_EQ(running.observer.guided, 1);
  EXPECT_EQ(running.observer.guide_errors, 0);
  EXPECT_EQ(sink->forced(), 40u);
}

TEST_F(GuidedEngineTest, WithLogprobsEveryForcedTokenHasItsRow) {
  GenerationRequest request = Guided({Spelled("forty")});
  const auto together = [&] {
    RunningEngine running(checkpoint_, settings_);
    const auto sink = running.Start(request);
    sink->WaitForEnd();
    return sink->tokens();
  }();
  request.logprobs = 1;
  RunningEngine running(checkpoint_, settings_);
  const auto sink = running.Start(request);
  sink->WaitForEnd();
  EXPECT_EQ(sink->tokens(), together);
  ASSERT_EQ(sink->logprobs().size(), together.size());
  for (size_t i = 0; i < together.size(); ++i)
    EXPECT_EQ(sink->logprobs()[i].chosen.token, together[i]);
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.observer.steps, 6);
}

TEST_F(GuidedEngineTest, ARunLongerThanAStepAndABudgetIsCutAndComplete) {
  settings_.engine.max_num_batched_tokens = 24;
  const std::string text(150, 'r');
  RunningEngine running(checkpoint_, settings_);
  const auto sink = running.Start(Guided({Spelled(text)}, 200));
  EXPECT_EQ(sink->WaitForEnd().reason, FinishReason::kStop);
  EXPECT_EQ(sink->text(), text);
  EXPECT_LE(running.observer.most_tokens, 24);
}

TEST_F(GuidedEngineTest, ARunEndsAtMaxTokens) {
  RunningEngine running(checkpoint_, settings_);
  const auto sink = running.Start(Guided({Spelled("too long to fit")}, 8));
  EXPECT_EQ(sink->WaitForEnd().reason, FinishReason::kLength);
  EXPECT_EQ(sink->text(), "too long");
}

TEST_F(GuidedEngineTest, AnAnswerMayEndInsideItsThoughts) {
  GenerationRequest request = Guided({Spelled("never reached")}, 12);
  auto plan = std::make_shared<GuidePlan>(*request.guide);
  plan->tags = testing::kToyTags;
  plan->start = ThoughtStart::kInside;
  request.guide = plan;
  request.sampling.logit_bias = {{testing::kNoThink, -100.0f}};
  RunningEngine running(checkpoint_, settings_);
  const GenerationEnd end = running.Start(request)->WaitForEnd();
  EXPECT_EQ(end.reason, FinishReason::kLength) << end.status;
  EXPECT_EQ(end.completion_tokens, 12);
  EXPECT_EQ(end.reasoning_tokens, 12);
}

TEST_F(GuidedEngineTest, ABudgetIsKeptAndCounted) {
  for (const int budget : {0, 1, 7}) {
    GenerationRequest request = Guided({Spelled("{}")}, 60);
    auto plan = std::make_shared<GuidePlan>(*request.guide);
    plan->tags = testing::kToyTags;
    plan->start = ThoughtStart::kInside;
    plan->thinking_token_budget = budget;
    request.guide = plan;
    request.sampling.logit_bias = {{testing::kNoThink, -100.0f}};
    RunningEngine running(checkpoint_, settings_);
    const auto sink = running.Start(request);
    const GenerationEnd end = sink->WaitForEnd();
    EXPECT_EQ(end.reason, FinishReason::kStop) << end.status;
    EXPECT_EQ(end.reasoning_tokens, budget);
    ASSERT_EQ(sink->tokens().size(), budget + 4u) << "</think>, {, }, the stop token";
    EXPECT_EQ(sink->tokens()[budget], testing::kNoThink);
  }
}

TEST_F(GuidedEngineTest, SixteenBesideSixteenKeepTheirGrammarsAndDisturbNobody) {
  std::vector<GenerationRequest> requests;
  std::vector<ToyGrammarSpec> specs;
  for (int i = 0; i < 16; ++i) {
    specs.push_back(RandomGrammar(random_, 40));
    requests.push_back(Guided(specs.back()));
    requests.push_back(RandomRequest(random_, 1 + random_() % 40, 30));
  }
  std::vector<std::vector<TokenId>> alone;
  {
    RunningEngine running(checkpoint_, settings_);
    for (size_t i = 1; i < requests.size(); i += 2) {
      const auto sink = running.Start(requests[i]);
      sink->WaitForEnd();
      alone.push_back(sink->tokens());
    }
  }
  RunningEngine running(checkpoint_, settings_);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (const GenerationRequest& request : requests) sinks.push_back(running.Start(request));
  for (size_t i = 0; i < sinks.size(); ++i) {
    const GenerationEnd end = sinks[i]->WaitForEnd();
    if (i % 2 == 1) {
      EXPECT_EQ(sinks[i]->tokens(), alone[i / 2]) << "request " << i;
      continue;
    }
    EXPECT_EQ(end.reason, FinishReason::kStop) << end.status;
    std::vector<TokenId> answer = sinks[i]->tokens();
    ASSERT_FALSE(answer.empty());
    EXPECT_EQ(answer.back(), kEos);
    answer.pop_back();
    EXPECT_TRUE(ToyGrammar(specs[i / 2]).Matches(answer)) << "request " << i;
  }
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_F(GuidedEngineTest, AGuidesErrorEndsItsOwnSequenceAlone) {
  RunningEngine running(checkpoint_, settings_);
  const std::vector<std::vector<TokenId>> places(10, {'x', 'y'});
  const auto mask = running.Start(Guided({.places = places, .mask_fails_at = 4}));
  const auto accept = running.Start(Guided({.places = places, .accept_fails_at = 6}));
  GenerationRequest conflicting = Guided({.places = places});
  conflicting.sampling.allowed_token_ids = {'z'};
  const auto conflict = running.Start(conflicting);
  const auto healthy = running.Start(Guided({.places = places}));
  const auto free = running.Start(RandomRequest(random_, 9, 20));
  GenerationEnd end = mask->WaitForEnd();
  EXPECT_EQ(end.status, absl::ResourceExhaustedError("toy grammar: the mask is too hard"));
  EXPECT_EQ(end.completion_tokens, 4);
  end = accept->WaitForEnd();
  EXPECT_EQ(end.status, absl::ResourceExhaustedError("toy grammar: the token is too hard"));
  EXPECT_EQ(end.completion_tokens, 6);
  end = conflict->WaitForEnd();
  EXPECT_EQ(end.status.code(), absl::StatusCode::kInvalidArgument) << end.status;
  EXPECT_EQ(healthy->WaitForEnd().completion_tokens, 11);
  EXPECT_EQ(free->WaitForEnd().completion_tokens, 20);
  const auto refused = running.engine().Submit(Guided({.places = places, .start_fails = true}),
                                               std::make_shared<RecordingSink>());
  EXPECT_EQ(refused.status(), absl::ResourceExhaustedError("toy grammar: too large"));
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.observer.guided, 4);
  EXPECT_EQ(running.observer.guide_errors, 3);
}

TEST_F(GuidedEngineTest, ARealSchemaGivesItsJsonAloneTogetherAndRowByRow) {
  const auto compiler =
      GrammarCompiler::Create(testing::ByteTokenizer(), checkpoint_.config().vocab_size);
  ASSERT_TRUE(compiler.ok()) << compiler.status();
  GrammarSpec spec;
  spec.kind = GrammarKind::kJsonSchema;
  spec.text = R"({"type":"object","properties":{
      "name":{"type":"string","maxLength":12},"colour":{"enum":["red","green","blue"]},
      "counts":{"type":"array","items":{"type":"integer","minimum":0,"maximum":999},"maxItems":3}},
      "required":["name","colour","counts"],"additionalProperties":false})";
  const auto compiled = (*compiler)->Compile(spec);
  ASSERT_TRUE(compiled.ok()) << compiled.status();
  auto plan = std::make_shared<GuidePlan>();
  plan->tags = testing::kToyTags;
  plan->start = ThoughtStart::kInside;
  plan->thinking_token_budget = 3;
  plan->grammar = MakeOutputGrammar(*compiled);

  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 12; ++i) {
    requests.push_back(RandomRequest(random_, 1 + random_() % 30, 150));
    requests.back().stop.ignore_eos = i % 3 == 0;
    requests.back().stop.min_tokens = i % 4 == 0 ? 150 : 0;
    if (i % 5 == 0) requests.back().sampling.temperature = 0;
    requests.back().guide = plan;
  }
  std::vector<std::vector<TokenId>> tokens[3];
  for (const int way : {0, 1, 2}) {
    EngineSettings settings = settings_;
    if (way == 0) settings.engine.max_num_seqs = 1;
    if (way == 2) settings.engine.max_num_batched_tokens = 20;
    RunningEngine running(checkpoint_, settings);
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (GenerationRequest request : requests) {
      if (way == 1) request.logprobs = 0;
      sinks.push_back(running.Start(request));
    }
    for (const auto& sink : sinks) {
      const GenerationEnd end = sink->WaitForEnd();
      EXPECT_EQ(end.reason, FinishReason::kStop) << end.status;
      EXPECT_LE(end.reasoning_tokens, 3);
      tokens[way].push_back(sink->tokens());
      if (way > 0) continue;
      const std::vector<TokenId>& all = sink->tokens();
      const auto answer = std::find(all.begin(), all.end(), testing::kNoThink);
      ASSERT_NE(answer, all.end());
      const auto text = testing::ByteTokenizer().Decode({answer + 1, all.end()}, true);
      const nlohmann::json value = nlohmann::json::parse(*text, nullptr, false);
      ASSERT_TRUE(value.is_object()) << *text;
      EXPECT_TRUE(value["name"].is_string() && value["counts"].is_array()) << *text;
      EXPECT_THAT(value["colour"], ::testing::AnyOf("red", "green", "blue"));
    }
  }
  EXPECT_EQ(tokens[0], tokens[1]);
  EXPECT_EQ(tokens[0], tokens[2]);
}

TEST_F(GuidedEngineTest, NoGuidedLoadLeaksABlock) {
  settings_.num_blocks = 30;
  settings_.block_size = 8;
  settings_.engine.max_num_seqs = 9;
  settings_.engine.max_num_batched_tokens = 50;
  settings_.engine.target_step_ms = 1000;  // as many at once as blocks allow, and more
  settings_.engine.max_queued_requests = 1000;
  RunningEngine running(checkpoint_, settings_);
  std::atomic<int> finishes{0};
  running.experts.finish = [&](const RoutedBatch&, float*) -> absl::Status {
    return ++finishes % 97 == 0 ? absl::UnavailableError("worker 0 died") : absl::OkStatus();
  };
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<SequenceId> ids;
  for (int i = 0; i < 200; ++i) {
    GenerationRequest request = RandomRequest(random_, 1 + random_() % 60, 1 + random_() % 40);
    request.stop.ignore_eos = random_() % 2 == 0;
    if (random_() % 4 != 0) request.guide = RandomPlan(random_);
    if (random_() % 5 == 0) request.prompt_logprobs = 1;
    if (random_() % 5 == 0) request.logprobs = 1;
    sinks.push_back(std::make_shared<RecordingSink>());
    ids.push_back(*running.engine().Submit(request, sinks.back()));
    if (random_() % 4 == 0) running.engine().Cancel(ids[random_() % ids.size()]);
  }
  for (const auto& sink : sinks) sink->WaitForEnd();
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
  EXPECT_EQ(running.observer.ends, 200);
  EXPECT_GT(running.observer.preempted, 0);
  EXPECT_GT(running.observer.forced_tokens, 0);
}

}  // namespace
}  // namespace sheaf

// An output that breaks off anywhere and is gone on with gives the rest that would have come, byte
// for byte; and what cannot be the beginning of an output is refused.

#include <gtest/gtest.h>

#include <random>

#include "router/text/guide/matcher_grammar.h"
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
using testing::Spelled;
using testing::TinyCheckpoint;
using testing::ToyGrammar;

constexpr TokenId kEos = testing::kEndOfText;

// What a client gets from token `first` on.
std::string Rest(RecordingSink& sink, size_t first) {
  const GenerationEnd end = sink.WaitForEnd();
  std::ostringstream out;
  out << "end " << int(end.reason) << " " << end.status << " " << end.prompt_tokens << " "
      << end.completion_tokens << " " << end.reasoning_tokens << " "
      << end.stop_string.value_or("-") << " " << end.stop_token.value_or(-1) << "\n";
  size_t told = 0;
  for (size_t i = 0; i < first; ++i) told += sink.events()[i].text.size();
  out << sink.text().substr(told) << "\n";
  for (size_t i = first; i < sink.events().size(); ++i) {
    const TokenEvent& event = sink.events()[i];
    out << event.index << ":" << event.token << ":" << event.text << ":" << event.text_end << ":"
        << event.forced << " ";
    if (event.logprobs.has_value()) out << testing::Bits(*event.logprobs);
    out << "\n";
  }
  return out.str();
}

// A sink whose events are those of the whole output, wherever they were generated.
std::string RestAfterPrior(RecordingSink& sink) {
  sink.WaitForEnd();
  return Rest(sink, 0);
}

class PriorOutput : public ::testing::Test {
 protected:
  PriorOutput() { settings_.engine.eos_token_ids = {kEos}; }

  // Every request is run whole, then gone on with after each of its tokens.
  void ExpectSameRests(const std::vector<GenerationRequest>& requests) {
    settings_.engine.max_queued_requests = 1 << 20;
    RunningEngine running(checkpoint_, settings_);
    std::vector<std::shared_ptr<RecordingSink>> wholes;
    for (const GenerationRequest& request : requests) wholes.push_back(running.Start(request));
    struct Resumed {
      size_t request, cut;
      std::shared_ptr<RecordingSink> sink;
    };
    std::vector<Resumed> resumed;
    for (size_t i = 0; i < requests.size(); ++i) {
      const GenerationEnd end = wholes[i]->WaitForEnd();
      // Random wishes may contradict each other (a grammar and bad_words): such a request has no
      // rest.
      if (absl::IsInvalidArgument(end.status)) continue;
      ASSERT_TRUE(end.status.ok()) << end.status;
      const std::vector<TokenId>& tokens = wholes[i]->tokens();
      for (size_t cut = 1; cut < tokens.size(); ++cut) {
        GenerationRequest request = requests[i];
        request.prior_output.assign(tokens.begin(), tokens.begin() + static_cast<long>(cut));
        resumed.push_back({i, cut, running.Start(request)});
      }
    }
    ASSERT_GT(resumed.size(), requests.size());
    for (const Resumed& each : resumed) {
      RecordingSink& whole = *wholes[each.request];
      ASSERT_EQ(RestAfterPrior(*each.sink), Rest(whole, each.cut))
          << "request " << each.request << " cut after " << each.cut;
      // What the sink is told of the part before is what the first client was told.
      ASSERT_EQ(each.sink->prior().size(), each.cut);
      for (size_t i = 0; i < each.cut; ++i) {
        ASSERT_EQ(each.sink->prior()[i].text, whole.events()[i].text);
        ASSERT_EQ(each.sink->prior()[i].text_end, whole.events()[i].text_end);
        ASSERT_EQ(each.sink->prior()[i].index, static_cast<int>(i));
      }
    }
    // A client hears of a stop string before the step thread does.
    running.engine().Stop(TimePoint::max());
    EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
  }

  absl::Status Refused(RunningEngine& running, GenerationRequest request,
                       std::vector<TokenId> prior) {
    request.prior_output = std::move(prior);
    return running.engine().Submit(request, std::make_shared<RecordingSink>()).status();
  }

  const uint64_t seed_ = testing::RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_, .four_bit = true}};
  EngineSettings settings_;
};

TEST_F(PriorOutput, TheRestOfAnyRequestIsTheSameFromAnyToken) {
  std::vector<GenerationRequest> requests = MixedRequests(random_, 24);
  for (size_t i = 0; i < requests.size(); ++i) {
    GenerationRequest& request = requests[i];
    if (i % 2 == 0) request.sampling.frequency_penalty = 0.5f;
    if (i % 3 == 0) request.sampling.presence_penalty = 0.7f;
    // A grammar that ends sooner would contradict it.
    if (i % 4 == 1 && request.guide == nullptr) request.stop.min_tokens = 9;
    request.prompt_logprobs.reset();
  }
  ExpectSameRests(requests);
}

TEST_F(PriorOutput, TheRestIsTheSameThroughStopStringsAndHalfCharacters) {
  // Few tokens, so that beginnings of stop strings and of characters are frequent.
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 24; ++i) {
    GenerationRequest request = RandomRequest(random_, 1 + random_() % 20, 40);
    request.sampling.allowed_token_ids = {'a', 'b', 0xC3, 0xA4, 0xF0, 0x9F, 0x98, 0x80};
    request.sampling.temperature = 3;
    request.stop.stop_strings = {"abab", "bb\u00e4", "aaaa"};
    request.stop.include_stop_string = i % 3 == 0;
    request.stop.min_tokens = i % 4 == 0 ? 12 : 0;
    if (i % 2 == 0) request.logprobs = 1;
    requests.push_back(std::move(request));
  }
  ExpectSameRests(requests);
}

TEST_F(PriorOutput, TheRestIsTheSameUnderARealSchemaAndABudget) {
  const auto compiler =
      GrammarCompiler::Create(testing::ByteTokenizer(), checkpoint_.config().vocab_size);
  ASSERT_TRUE(compiler.ok()) << compiler.status();
  GrammarSpec spec;
  spec.kind = GrammarKind::kJsonSchema;
  spec.text = R"({"type":"object","properties":{
      "name":{"type":"string","maxLength":6},"colour":{"enum":["red","green","blue"]}},
      "required":["name","colour"],"additionalProperties":false})";
  const auto compiled = (*compiler)->Compile(spec);
  ASSERT_TRUE(compiled.ok()) << compiled.status();
  auto plan = std::make_shared<GuidePlan>();
  plan->tags = testing::kToyTags;
  plan->start = ThoughtStart::kInside;
  plan->thinking_token_budget = 4;
  plan->grammar = MakeOutputGrammar(*compiled);
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 8; ++i) {
    requests.push_back(RandomRequest(random_, 1 + random_() % 30, 100));
    requests.back().stop.ignore_eos = i % 3 == 0;
    if (i % 2 == 0) requests.back().sampling.temperature = 0;
    if (i % 4 == 1) requests.back().logprobs = 1;
    if (i % 4 == 3) requests.back().sampling.logit_bias = {{'e', 2.0f}};  // no runs
    requests.back().guide = plan;
  }
  ExpectSameRests(requests);
}

TEST_F(PriorOutput, TheRestIsTheSameAmongPreemptionsAndStepsGivenUp) {
  settings_.num_blocks = 24;
  settings_.block_size = 8;
  settings_.engine.max_queued_requests = 1 << 20;
  settings_.engine.retry.first_wait = std::chrono::microseconds(10);
  RunningEngine running(checkpoint_, settings_);
  int finishes = 0;  // of the step thread
  running.experts.finish = [&](const RoutedBatch&, float*) -> absl::Status {
    return ++finishes % 11 == 0 ? absl::UnavailableError("worker 0 died") : absl::OkStatus();
  };
  std::vector<GenerationRequest> requests = MixedRequests(random_, 12);
  std::vector<std::shared_ptr<RecordingSink>> wholes, rests;
  std::vector<size_t> cuts;
  for (const GenerationRequest& request : requests) wholes.push_back(running.Start(request));
  for (size_t i = 0; i < requests.size(); ++i) {
    wholes[i]->WaitForEnd();
    const std::vector<TokenId>& tokens = wholes[i]->tokens();
    cuts.push_back(tokens.size() < 2 ? 0 : 1 + random_() % (tokens.size() - 1));
    requests[i].prior_output.assign(tokens.begin(), tokens.begin() + static_cast<long>(cuts[i]));
    rests.push_back(running.Start(requests[i]));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(RestAfterPrior(*rests[i]), Rest(*wholes[i], cuts[i]));
    EXPECT_EQ(rests[i]->prompt_logprobs().has_value(), wholes[i]->prompt_logprobs().has_value());
  }
  EXPECT_GT(running.observer.given_up, 0);
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

TEST_F(PriorOutput, WhatEndsAnOutputHasNoRest) {
  RunningEngine running(checkpoint_, settings_);
  GenerationRequest request = RandomRequest(random_, 5, 10);
  request.stop.ignore_eos = false;
  EXPECT_EQ(Refused(running, request, {'a', 'b', kEos, 'c'}),
            absl::InvalidArgumentError("prior_output[2]: the output ends here with stop token " +
                                       std::to_string(kEos)));
  request.stop.stop_strings = {"x", "bcd"};
  EXPECT_EQ(
      Refused(running, request, {'a', 'b', 'c', 'd'}),
      absl::InvalidArgumentError("prior_output[3]: the output ends here with stop string 1"));
  EXPECT_EQ(Refused(running, request, {'a', 'b', 'c'}), absl::OkStatus());
  EXPECT_EQ(Refused(running, request, std::vector<TokenId>(10, 'a')).code(),
            absl::StatusCode::kInvalidArgument)
      << "max_tokens";
  EXPECT_EQ(Refused(running, request, std::vector<TokenId>(9, 'a')), absl::OkStatus());
  request.stop.max_tokens = 1000;
  EXPECT_EQ(Refused(running, request, std::vector<TokenId>(251, 'a')).code(),
            absl::StatusCode::kInvalidArgument)
      << "the model's context";
}

TEST_F(PriorOutput, WhatTheRequestCannotHaveHadIsRefusedByPosition) {
  RunningEngine running(checkpoint_, settings_);
  GenerationRequest request = RandomRequest(random_, 5, 50);
  EXPECT_EQ(Refused(running, request, {'a', 100000}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Refused(running, request, {'a', -1}),
            absl::InvalidArgumentError("prior_output[1]: token id: wanted 0 to " +
                                       std::to_string(checkpoint_.config().vocab_size - 1) +
                                       ", got -1"));
  request.bad_words = {{'b', 'c'}};
  EXPECT_EQ(Refused(running, request, {'c', 'b', 'c'}),
            absl::InvalidArgumentError("prior_output[2]: token 99 may not come here (min_tokens, "
                                       "bad_words or a guide)"));
  request.bad_words.clear();
  request.stop.ignore_eos = false;
  request.stop.min_tokens = 5;
  EXPECT_EQ(Refused(running, request, {'a', kEos}),
            absl::InvalidArgumentError("prior_output[1]: token " + std::to_string(kEos) +
                                       " may not come here (min_tokens, bad_words or a guide)"));
  request.stop.min_tokens = 0;

  auto plan = std::make_shared<GuidePlan>();
  plan->tags = testing::kToyTags;
  plan->start = ThoughtStart::kInside;
  plan->thinking_token_budget = 2;
  plan->before_answer = {'\n'};
  auto places = Spelled("ok");
  places.push_back({'1', '2'});
  places.push_back({'!', '?'});
  plan->grammar = std::make_shared<ToyGrammar>(testing::ToyGrammarSpec{.places = places});
  request.guide = plan;
  const TokenId end = testing::kNoThink;
  const auto message = [&](std::vector<TokenId> prior) {
    return std::string(Refused(running, request, std::move(prior)).message());
  };
  EXPECT_EQ(message({'x', testing::kThink}),
            "prior_output[1]: token " + std::to_string(testing::kThink) +
                " may not come here (min_tokens, bad_words or a guide)");
  EXPECT_EQ(message({'x', 'y', 'z'}), "prior_output[2]: wanted token " + std::to_string(end) +
                                          ", which the guide forces here, got 122");
  EXPECT_EQ(message({'x', end, 'o'}),
            "prior_output[2]: wanted token 10, which the guide forces here, got 111");
  EXPECT_EQ(message({'x', end, '\n', 'o', 'k', '3'}),
            "prior_output[5]: toy grammar: a token that the mask forbids");
  EXPECT_EQ(message({'x', end, '\n', 'o', 'k', '2', '!', 'a'}),
            "prior_output[7]: the grammar is at its end, got token 97");
  EXPECT_EQ(message({'x', end, '\n', 'o', 'k', '2', '!', kEos}).substr(0, 39),
            "prior_output[7]: the output ends here w");
  EXPECT_EQ(message({'x', end, '\n', 'o', 'k', '2', '!'}), "") << "the stop token is to come";
  running.engine().Stop(TimePoint::max());
  EXPECT_EQ(running.engine().free_kv_blocks(), running.num_blocks());
}

}  // namespace
}  // namespace sheaf

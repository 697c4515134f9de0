#include "router/schedule/delivery/token_delivery.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <mutex>
#include <random>
#include <thread>

#include "tests/schedule/byte_tokenizer.h"
#include "tests/schedule/recording_sink.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::RecordingSink;

class Counter final : public EngineObserver {
 public:
  void OnTold(const ToldTokens& told) override { tokens += told.tokens; }
  void OnRequestEnd(const RequestReport& report) override {
    std::lock_guard lock(mutex_);
    reports_.push_back(report);
  }
  std::vector<RequestReport> reports() {
    std::lock_guard lock(mutex_);
    return reports_;
  }
  std::atomic<int> tokens{0};

 private:
  std::mutex mutex_;
  std::vector<RequestReport> reports_;
};

std::shared_ptr<OutputTeller> Teller(uint64_t id, std::shared_ptr<GenerationSink> sink,
                                     std::vector<std::string> stop = {}) {
  GenerationRequest request;
  request.prompt = {'a', 'b'};
  request.stop.stop_strings = stop;
  return std::make_shared<OutputTeller>(
      SequenceId(id), request, std::move(sink), testing::ByteTokenizer(),
      std::make_shared<const StopStrings>(*StopStrings::Create(stop)), TimePoint{});
}

NewToken Token(TokenId token) {
  NewToken message;
  message.token = token;
  return message;
}

Ending End(FinishReason reason) {
  Ending ending;
  ending.reason = reason;
  return ending;
}

TEST(TokenDelivery, EachClientIsToldInOrderAndItsEndLast) {
  std::mt19937_64 random(testing::RandomSeed());
  for (const int threads : {0, 1, 3}) {
    SCOPED_TRACE(threads);
    Counter counter;
    TokenDelivery delivery({.threads = threads}, counter, [](SequenceId) {});
    constexpr int kSequences = 8, kTokens = 500;
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    std::vector<std::shared_ptr<OutputTeller>> tellers;
    for (int i = 0; i < kSequences; ++i) {
      sinks.push_back(std::make_shared<RecordingSink>());
      tellers.push_back(Teller(i, sinks.back()));
    }
    for (int t = 0; t < kTokens; ++t) {
      for (int i = 0; i < kSequences; ++i) delivery.Add(tellers[i], Token((t + i) % 128));
      if (random() % 3 == 0) delivery.Flush();
    }
    for (const auto& teller : tellers) delivery.Add(teller, End(FinishReason::kLength));
    delivery.Drain();
    for (int i = 0; i < kSequences; ++i) {
      ASSERT_TRUE(sinks[i]->ended()) << "Drain returns when everything was told";
      ASSERT_EQ(sinks[i]->tokens().size(), size_t{kTokens});
      for (int t = 0; t < kTokens; ++t) ASSERT_EQ(sinks[i]->tokens()[t], (t + i) % 128);
      EXPECT_EQ(sinks[i]->WaitForEnd().completion_tokens, kTokens);
    }
    EXPECT_EQ(counter.tokens, kSequences * kTokens);
    EXPECT_EQ(counter.reports().size(), size_t{kSequences});
  }
}

TEST(TokenDelivery, FewTokensAreToldByTheStepThreadWhileTheOtherSleeps) {
  Counter counter;
  std::thread::id told_on;
  const auto sink = std::make_shared<RecordingSink>();
  sink->on_token = [&](size_t) { told_on = std::this_thread::get_id(); };
  TokenDelivery delivery({.threads = 1, .told_here = 2}, counter, [](SequenceId) {});
  const auto teller = Teller(1, sink);
  const auto add = [&](int tokens) {
    for (int i = 0; i < tokens; ++i) delivery.Add(teller, Token('x'));
  };
  add(3);
  delivery.Drain();
  EXPECT_NE(told_on, std::this_thread::get_id()) << "three are many";
  // It may not sleep yet.
  for (int tries = 0; told_on != std::this_thread::get_id() && tries < 100'000; ++tries) {
    add(2);
    delivery.Drain();
  }
  EXPECT_EQ(told_on, std::this_thread::get_id());
  NewToken heavy = Token('y');
  heavy.logprobs.emplace();
  delivery.Add(teller, std::move(heavy));
  delivery.Drain();
  EXPECT_NE(told_on, std::this_thread::get_id()) << "log-probabilities are never light";
  EXPECT_EQ(static_cast<size_t>(counter.tokens), sink->tokens().size());
}

TEST(TokenDelivery, WhatWasRunBeyondAStopStringIsNeitherToldNorCounted) {
  for (const int threads : {0, 2}) {
    SCOPED_TRACE(threads);
    Counter counter;
    std::atomic<int> found{0};
    TokenDelivery delivery({.threads = threads}, counter, [&](SequenceId id) {
      EXPECT_EQ(id, SequenceId(7));
      ++found;
    });
    const auto sink = std::make_shared<RecordingSink>();
    const auto teller = Teller(7, sink, {"END"});
    for (const char c : std::string("xENDbeyond")) delivery.Add(teller, Token(c));
    delivery.Flush();
    // Told at once, without the step thread.
    const GenerationEnd end = sink->WaitForEnd();
    EXPECT_EQ(end.reason, FinishReason::kStop);
    EXPECT_EQ(end.stop_string, "END");
    EXPECT_EQ(end.completion_tokens, 4);
    // It had gone on to max_tokens before it heard of the stop string.
    delivery.Add(teller, End(FinishReason::kLength));
    delivery.Drain();
    EXPECT_EQ(sink->text(), "x");
    EXPECT_EQ(sink->tokens().size(), 4u);
    EXPECT_EQ(found, 1);
    EXPECT_EQ(counter.tokens, 4);
    ASSERT_EQ(counter.reports().size(), 1u);
    EXPECT_EQ(counter.reports()[0].reason, FinishReason::kStop);
    EXPECT_EQ(counter.reports()[0].completion_tokens, 4);
  }
}

TEST(TokenDelivery, AnErrorComesBehindWhatWasToldBefore) {
  Counter counter;
  TokenDelivery delivery({.threads = 1}, counter, [](SequenceId) {});
  const auto sink = std::make_shared<RecordingSink>();
  const auto teller = Teller(1, sink);
  delivery.Add(teller, Token('x'));
  Ending ending = End(FinishReason::kError);
  ending.status = absl::InternalError("broken");
  ending.guide_error = true;
  delivery.Add(teller, std::move(ending));
  delivery.Drain();
  EXPECT_EQ(sink->text(), "x");
  EXPECT_EQ(sink->WaitForEnd().status, absl::InternalError("broken"));
  ASSERT_EQ(counter.reports().size(), 1u);
  EXPECT_EQ(counter.reports()[0].code, absl::StatusCode::kInternal);
  EXPECT_TRUE(counter.reports()[0].guide_error);
}

TEST(TokenDelivery, TheStepThreadWaitsForAThreadThatIsTooFarBehind) {
  Counter counter;
  std::promise<void> release;
  {
    TokenDelivery delivery({.threads = 2, .max_messages_behind = 10}, counter, [](SequenceId) {});
    const auto slow = std::make_shared<RecordingSink>();
    slow->on_token = [held = release.get_future().share()](size_t) {
      EXPECT_EQ(held.wait_for(std::chrono::minutes(1)), std::future_status::ready);
    };
    const auto teller = Teller(2, slow), other = Teller(3, std::make_shared<RecordingSink>());
    for (int i = 0; i < 10; ++i) delivery.Add(teller, Token('x'));
    delivery.Flush();
    EXPECT_FALSE(delivery.TooFarBehind());
    for (int i = 0; i < 5; ++i) delivery.Add(teller, Token('x'));
    delivery.Add(other, Token('y'));
    delivery.Flush();
    EXPECT_TRUE(delivery.TooFarBehind());
    auto waiting =
        std::async(std::launch::async, [&delivery] { delivery.WaitUntilCaughtUp(); });
    EXPECT_EQ(waiting.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
    release.set_value();
    ASSERT_EQ(waiting.wait_for(std::chrono::minutes(1)), std::future_status::ready);
    EXPECT_FALSE(delivery.TooFarBehind());
  }
  EXPECT_EQ(counter.tokens, 16) << "the destructor drains";
}

TEST(TokenDelivery, LogProbabilitiesWeigh) {
  Counter counter;
  std::promise<void> release;
  TokenDelivery delivery({.threads = 1, .max_bytes_behind = 10000}, counter, [](SequenceId) {});
  const auto slow = std::make_shared<RecordingSink>();
  slow->on_token = [held = release.get_future().share()](size_t) {
    EXPECT_EQ(held.wait_for(std::chrono::minutes(1)), std::future_status::ready);
  };
  const auto teller = Teller(2, slow);
  delivery.Add(teller, PromptLogprobsPiece{0, {std::nullopt, TokenLogprobs{}}});
  delivery.Flush();
  EXPECT_FALSE(delivery.TooFarBehind());
  NewToken heavy = Token('x');
  heavy.logprobs.emplace().top.resize(1000);
  delivery.Add(teller, std::move(heavy));
  delivery.Flush();
  EXPECT_TRUE(delivery.TooFarBehind());
  release.set_value();
  delivery.WaitUntilCaughtUp();
  EXPECT_FALSE(delivery.TooFarBehind());
}

}  // namespace
}  // namespace sheaf

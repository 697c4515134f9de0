#pragma once
// A sink that keeps everything and lets a test wait for it, with a deadline.
//
// Threads: OnX from the engine's, the rest from the test's.

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <iterator>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "router/schedule/generation.h"

namespace sheaf::testing {

class RecordingSink final : public GenerationSink {
 public:
  // Called from the engine's thread at every token, with their number.
  std::function<void(size_t)> on_token;

  void OnPriorOutput(std::vector<TokenEvent> tokens) override {
    std::lock_guard lock(mutex_);
    EXPECT_TRUE(tokens_.empty() && prior_.empty() && !prompt_logprobs_.has_value())
        << "before anything else, once";
    prior_ = std::move(tokens);
  }
  void OnPromptLogprobs(int first, std::vector<std::optional<TokenLogprobs>> piece) override {
    std::lock_guard lock(mutex_);
    EXPECT_TRUE(tokens_.empty()) << "prompt log-probabilities come before the first token";
    if (!prompt_logprobs_.has_value()) prompt_logprobs_.emplace();
    EXPECT_EQ(prompt_logprobs_->size(), static_cast<size_t>(first)) << "each once, in order";
    std::move(piece.begin(), piece.end(), std::back_inserter(*prompt_logprobs_));
    ++prompt_pieces_;
  }
  void OnAdmitted(Duration queued) override {
    std::lock_guard lock(mutex_);
    EXPECT_TRUE(tokens_.empty() && !admitted_.has_value()) << "before the first token, once";
    EXPECT_GE(queued, Duration(0));
    admitted_ = queued;
  }
  void OnToken(TokenEvent event) override {
    size_t count;
    {
      std::lock_guard lock(mutex_);
      EXPECT_TRUE(admitted_.has_value());
      EXPECT_FALSE(end_.has_value()) << "nothing after the end";
      tokens_.push_back(event.token);
      text_ += event.text;
      forced_ += event.forced;
      text_ends_.push_back(event.text_end);
      if (event.logprobs.has_value()) logprobs_.push_back(*event.logprobs);
      events_.push_back(std::move(event));
      count = tokens_.size();
    }
    changed_.notify_all();
    if (on_token) on_token(count);
  }
  void OnEnd(GenerationEnd end) override {
    std::lock_guard lock(mutex_);
    EXPECT_FALSE(end_.has_value()) << "one end";
    EXPECT_TRUE(!admitted_.has_value() || *admitted_ == end.queued) << "the same wait";
    text_ += end.text;
    end_ = std::move(end);
    changed_.notify_all();
  }

  // Waits up to a minute.
  GenerationEnd WaitForEnd() {
    std::unique_lock lock(mutex_);
    const bool ended =
        changed_.wait_for(lock, std::chrono::minutes(1), [&] { return end_.has_value(); });
    EXPECT_TRUE(ended) << "no end within a minute";
    return end_.value_or(GenerationEnd{});
  }
  void WaitForTokens(size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::minutes(1),
                                  [&] { return tokens_.size() >= count || end_.has_value(); }));
  }

  // After the end.
  const std::vector<TokenId>& tokens() const { return tokens_; }
  const std::vector<TokenEvent>& events() const { return events_; }  // as they came
  const std::vector<TokenEvent>& prior() const { return prior_; }
  const std::string& text() const { return text_; }
  size_t forced() const { return forced_; }
  const std::vector<int64_t>& text_ends() const { return text_ends_; }  // of each token
  const std::vector<TokenLogprobs>& logprobs() const { return logprobs_; }
  const std::optional<std::vector<std::optional<TokenLogprobs>>>& prompt_logprobs() const {
    return prompt_logprobs_;
  }
  size_t prompt_pieces() const { return prompt_pieces_; }
  bool ended() const {
    std::lock_guard lock(mutex_);
    return end_.has_value();
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<TokenEvent> prior_, events_;
  std::vector<TokenId> tokens_;
  std::string text_;
  size_t forced_ = 0;
  std::vector<int64_t> text_ends_;
  std::vector<TokenLogprobs> logprobs_;
  std::optional<std::vector<std::optional<TokenLogprobs>>> prompt_logprobs_;
  size_t prompt_pieces_ = 0;
  std::optional<Duration> admitted_;
  std::optional<GenerationEnd> end_;
};

}  // namespace sheaf::testing

#pragma once
// A GenerationEngine that does what a test says: by hand (Emit, End) or by answering each prompt at
// once.
//
// Threads    any. Sinks are called on the thread of the test, or within Submit when an answer is
//            set: the earliest moment at which a real step thread could call them.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "router/schedule/generation.h"

namespace sheaf {

class FakeGenerationEngine final : public GenerationEngine {
 public:
  using Answer = std::function<void(const GenerationRequest&, GenerationSink&)>;

  absl::StatusOr<std::vector<SequenceId>> SubmitAll(std::vector<Submission> choices) override {
    std::vector<SequenceId> ids;
    {
      std::lock_guard lock(mutex_);
      if (!submit_error_.ok()) return submit_error_;
    }
    for (Submission& choice : choices) {
      Answer answer;
      GenerationRequest copy = choice.request;
      GenerationSink* listener = choice.sink.get();
      {
        std::lock_guard lock(mutex_);
        ids.push_back(SequenceId(sequences_.size()));
        answer = answer_;
        sequences_.push_back({std::move(choice.request), std::move(choice.sink), false});
      }
      changed_.notify_all();
      if (answer) answer(copy, *listener);
    }
    return ids;
  }

  void Cancel(SequenceId sequence) override {
    std::shared_ptr<GenerationSink> sink;
    {
      std::lock_guard lock(mutex_);
      if (sequence.value() >= sequences_.size()) return;
      Sequence& cancelled = sequences_[sequence.value()];
      cancelled.cancelled = true;
      sink = std::move(cancelled.sink);
    }
    changed_.notify_all();
    GenerationEnd end;
    end.reason = FinishReason::kCancelled;
    if (sink) sink->OnEnd(end);
  }

  bool ready() const override {
    std::lock_guard lock(mutex_);
    return ready_;
  }
  bool live() const override {
    std::lock_guard lock(mutex_);
    return live_;
  }
  EngineLoad load() const override {
    std::lock_guard lock(mutex_);
    return load_;
  }
  Duration RetryAfter() const override { return std::chrono::milliseconds(1500); }
  int32_t max_model_len() const override { return 512; }

  void SetReady(bool ready) {
    std::lock_guard lock(mutex_);
    ready_ = ready;
  }
  void SetLive(bool live) {
    std::lock_guard lock(mutex_);
    live_ = live;
  }
  void SetLoad(const EngineLoad& load) {
    std::lock_guard lock(mutex_);
    load_ = load;
  }
  void SetSubmitError(absl::Status error) {
    std::lock_guard lock(mutex_);
    submit_error_ = std::move(error);
  }
  void SetAnswer(Answer answer) {
    std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
  }

  // Waits for the sequence to be submitted; false after ten seconds.
  bool WaitForSubmit(size_t index) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return sequences_.size() > index; });
  }
  bool WaitForCancel(size_t index) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(
        lock, kPatience, [&] { return sequences_.size() > index && sequences_[index].cancelled; });
  }

  GenerationRequest request(size_t index) const {
    std::lock_guard lock(mutex_);
    return sequences_.at(index).request;
  }
  size_t submitted() const {
    std::lock_guard lock(mutex_);
    return sequences_.size();
  }

  void Admit(size_t index, Duration queued) {
    if (const auto sink = SinkOf(index)) sink->OnAdmitted(queued);
  }
  // False when the sequence has ended or was cancelled.
  bool Emit(size_t index, TokenEvent event) {
    const auto sink = SinkOf(index);
    if (sink) sink->OnToken(std::move(event));
    return sink != nullptr;
  }
  bool EmitPromptLogprobs(size_t index, int first,
                          std::vector<std::optional<TokenLogprobs>> piece) {
    const auto sink = SinkOf(index);
    if (sink) sink->OnPromptLogprobs(first, std::move(piece));
    return sink != nullptr;
  }
  void End(size_t index, GenerationEnd end) {
    std::shared_ptr<GenerationSink> sink;
    {
      std::lock_guard lock(mutex_);
      sink = std::move(sequences_.at(index).sink);
    }
    if (sink) sink->OnEnd(std::move(end));
  }

 private:
  static constexpr std::chrono::seconds kPatience{10};
  struct Sequence {
    GenerationRequest request;
    std::shared_ptr<GenerationSink> sink;  // null: ended
    bool cancelled;
  };

  std::shared_ptr<GenerationSink> SinkOf(size_t index) const {
    std::lock_guard lock(mutex_);
    return sequences_.at(index).sink;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Sequence> sequences_;
  bool ready_ = true;
  bool live_ = true;
  EngineLoad load_;
  absl::Status submit_error_;
  Answer answer_;
};

}  // namespace sheaf

#pragma once
// EngineGate: the engine as the API sees it before there is one. Ports answer while weights are
// loaded: alive, not ready, and every request kUnavailable; from Open on all goes to the engine.
//
// Threads    any.
// Ownership  borrows the engine, which outlives every call.

#include <atomic>
#include <memory>
#include <utility>

#include "router/schedule/generation.h"

namespace sheaf {

class EngineGate final : public GenerationEngine {
 public:
  explicit EngineGate(int32_t max_model_len) : max_model_len_(max_model_len) {}

  void Open(GenerationEngine& engine) { engine_.store(&engine, std::memory_order_release); }

  absl::StatusOr<std::vector<SequenceId>> SubmitAll(std::vector<Submission> choices) override {
    if (GenerationEngine* const engine = Behind()) return engine->SubmitAll(std::move(choices));
    return absl::UnavailableError("the server is loading its weights");
  }
  void Cancel(SequenceId sequence) override {
    if (GenerationEngine* const engine = Behind()) engine->Cancel(sequence);
  }
  bool ready() const override { return Behind() != nullptr && Behind()->ready(); }
  bool accepting() const override { return Behind() != nullptr && Behind()->accepting(); }
  bool live() const override { return Behind() == nullptr || Behind()->live(); }
  EngineLoad load() const override { return Behind() ? Behind()->load() : EngineLoad{}; }
  Duration RetryAfter() const override {
    return Behind() ? Behind()->RetryAfter() : std::chrono::seconds(1);
  }
  void ResetPrefixCache() override {
    if (GenerationEngine* const engine = Behind()) engine->ResetPrefixCache();
  }
  int32_t max_model_len() const override { return max_model_len_; }

 private:
  GenerationEngine* Behind() const { return engine_.load(std::memory_order_acquire); }

  const int32_t max_model_len_;
  std::atomic<GenerationEngine*> engine_{nullptr};
};

}  // namespace sheaf

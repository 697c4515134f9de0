#pragma once
// Everything an ApiContext needs, with a fake engine and codec, for tests of the API.

#include <optional>
#include <string>

#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"
#include "router/api/generation/api_context.h"
#include "tests/fakes/fake_generation_engine.h"
#include "tests/fakes/fake_text_codec.h"

namespace sheaf {

struct ApiFixture {
  ApiFixture() {
    model.names = {"glm-nano", "alias"};
    model.config.model_type = "glm4_moe";
    model.config.vocab_size = FakeTextCodec::kVocabSize;
    model.config.num_layers = 4;
    model.config.num_experts = 8;
    model.config.experts_per_token = 2;
    model.config.eos_token_ids = {FakeTextCodec::kEnd};
    model.created_unix_seconds = 1700000000;
    model.server_version = "9.8.7";
  }

  std::string Metrics() const { return prometheus::TextSerializer().Serialize(registry.Collect()); }

  FakeGenerationEngine engine;
  FakeTextCodec codec;
  ServedModel model;
  RequestLimits limits;
  ApiSettings settings;
  prometheus::Registry registry;
  RouterMetrics metrics{registry, "9.8.7"};
  SteadyClock clock;
  std::atomic<uint64_t> next_random{1000};
  WakeQueue wakes;
  ApiContext context{engine,
                     codec,
                     model,
                     limits,
                     settings,
                     metrics,
                     preparation,
                     wakes,
                     clock,
                     [this] { return next_random++; },
                     [] { return int64_t{1700000123}; }};
  std::optional<ByteBudget> budget;  // of a test that emplaces one
  // Ends before the context and the budget: its last tasks use them.
  PreparationPool preparation{{.ordinary_capacity = 64, .guided_capacity = 2}};
};

// One byte as a token whose text is that byte.
inline TokenEvent ByteToken(char c) {
  TokenEvent event;
  event.token = static_cast<unsigned char>(c);
  event.text = std::string(1, c);
  return event;
}

// The chosen token at -0.5 as most probable one, the next byte at -1.5.
inline TokenLogprobs ByteLogprobs(TokenId token, int top) {
  TokenLogprobs logprobs;
  logprobs.chosen = {token, -0.5f, 1};
  if (top >= 1) logprobs.top.push_back({token, -0.5f, 1});
  if (top >= 2) logprobs.top.push_back({token + 1, -1.5f, 2});
  return logprobs;
}

inline GenerationEnd EndOf(const GenerationRequest& request, FinishReason reason,
                           int completion_tokens) {
  GenerationEnd end;
  end.reason = reason;
  if (reason == FinishReason::kStop) end.stop_token = FakeTextCodec::kEnd;
  end.prompt_tokens = static_cast<int32_t>(request.prompt.size());
  end.completion_tokens = completion_tokens;
  return end;
}

// Answers every prompt with `text`, at once, and stops; log-probabilities as asked for. A prior
// output is taken for the text's beginning.
inline FakeGenerationEngine::Answer AnswerWith(std::string text) {
  return [text = std::move(text)](const GenerationRequest& request, GenerationSink& sink) {
    if (request.prompt_logprobs) {
      std::vector<std::optional<TokenLogprobs>> prompt;
      for (size_t i = 0; i < request.prompt.size(); ++i) {
        if (i == 0) {
          prompt.emplace_back();
        } else {
          prompt.emplace_back(ByteLogprobs(request.prompt[i], *request.prompt_logprobs));
        }
      }
      // In two pieces, as a prompt of two chunks.
      const auto half = prompt.begin() + static_cast<long>((prompt.size() + 1) / 2);
      sink.OnPromptLogprobs(0, {prompt.begin(), half});
      if (half != prompt.end()) {
        sink.OnPromptLogprobs(static_cast<int>(half - prompt.begin()), {half, prompt.end()});
      }
    }
    const int prior = static_cast<int>(request.prior_output.size());
    std::vector<TokenEvent> known;
    int tokens = 0;
    for (const char c : text) {
      if (tokens == request.stop.max_tokens) break;
      TokenEvent event = ByteToken(c);
      event.index = tokens;
      if (tokens < prior) known.push_back(event);
      if (tokens + 1 == prior) sink.OnPriorOutput(std::move(known));
      if (tokens < prior) {
        ++tokens;
        continue;
      }
      if (request.logprobs) event.logprobs = ByteLogprobs(event.token, *request.logprobs);
      sink.OnToken(std::move(event));
      ++tokens;
    }
    const bool all = tokens == static_cast<int>(text.size());
    sink.OnEnd(EndOf(request, all ? FinishReason::kStop : FinishReason::kLength, tokens));
  };
}

}  // namespace sheaf

#pragma once
// GenerationReply: the answer to one generation request over HTTP, whole or as an event stream; its
// two subclasses put the OpenAI shapes of completions and of chats around it.
//
// Stream     data: {...}\n\n for each token, a chunk with finish_reason for each choice, with
//            include_usage a last chunk with `choices: []`, then data: [DONE]. An error before the
//            first event is a plain HTTP error; after it an error event, then [DONE].
// Threads    as PendingReply.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/api/generation/api_context.h"
#include "router/api/generation/start_request.h"
#include "router/api/http/http_message.h"
#include "router/api/openai/openai_request.h"
#include "router/api/request/api_settings.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {

// Of the request, what its answer depends on.
struct AnswerOptions {
  std::string id;      // "cmpl-..." or "chatcmpl-..."
  std::string object;  // "text_completion" or "chat.completion"; a chat's chunks add ".chunk"
  int64_t created_unix_seconds;
  std::string model;
  OpenAiRequest parsed;  // its prompts are not looked at
  ApiSettings settings;
  bool include_reasoning = true;
};

class GenerationReply : public PendingReply {
 public:
  GenerationReply(const ApiContext& context, AnswerOptions options, StartedRequest started);
  ~GenerationReply() override;

  void SetWake(std::function<void()> wake) final {
    using WakeFor = GenerationCall::WakeFor;
    call_->SetWake(std::move(wake), streams() ? WakeFor::kEveryEvent : WakeFor::kMuch);
  }
  Progress Poll(bool begun) final;
  void Abandon() final { call_->Abandon(RequestOutcome::kCancelled); }
  bool streams() const final { return options_.parsed.stream; }

 protected:
  struct Choice {
    const PreparedPrompt* prompt = nullptr;
    bool begun = false;  // its first chunk is out
    int completion_tokens = 0;
    std::optional<int32_t> cached_tokens;  // of its prompt; known at its end
    int prompt_logprobs_seen = 0;          // tokens of the prompt
    // Whole answers collect; streams leave these empty.
    std::string prompt_logprobs;  // the inside of the list, where it was asked for as such
    std::string text;
    std::vector<TokenId> tokens;
    std::optional<GenerationEnd> end;
  };

  // A piece of the prompt's log-probabilities has come, of the tokens from `first` on.
  virtual void TakePromptLogprobs(int index, Choice& choice, int first,
                                  const PromptLogprobs& piece, std::string& out) = 0;
  // A stream's chunks for one token, and for the end of a choice.
  virtual void StreamToken(int index, Choice& choice, const TokenEvent& event,
                           std::string& out) = 0;
  virtual void StreamEnd(int index, Choice& choice, const GenerationEnd& end, std::string& out) = 0;
  // The same for an answer that is sent whole.
  virtual void CollectToken(int index, Choice& choice, const TokenEvent& event) = 0;
  virtual void CollectEnd(int index, Choice& choice, const GenerationEnd& end) = 0;
  // What the client has already: nothing of it is sent, but what follows goes on after it.
  virtual void SkipPrior(int index, const PriorOutput& prior) = 0;
  // The whole answer without its usage and closing brace. May take what the choices hold.
  virtual void AppendWholeAnswer(std::vector<Choice>& choices, std::string& out) = 0;
  // Tokens of thoughts so far; nothing where they are not told apart.
  virtual std::optional<int32_t> ReasoningTokens(int index) const = 0;
  // Calls of tools that were not declared, in all choices.
  virtual int UndeclaredCalls() const = 0;

  // {"id", "object", "created", "model", "choices": [choice]`further`}, as an event. `choice` and
  // `further` are JSON texts.
  void AppendChunk(std::string_view choice, const Choice* usage_of, std::string& out,
                   std::string_view further = {}) const;
  // {"id", "object", "created", "model", without the closing brace
  const std::string& head() const { return head_; }
  static const char* FinishReasonName(FinishReason reason);
  // ,"prompt_logprobs":[...], if they were asked for as such.
  void AppendPromptLogprobsField(Choice& choice, std::string& out) const;
  // The stop string or the request's own stop id that ended it; null for EOS and length.
  Json StopReason(const GenerationEnd& end) const;

  const TextCodec& codec_;
  const AnswerOptions options_;
  const PreparedRequest prepared_;
  const bool has_logprobs_;

 private:
  struct TokenCounts {
    int64_t prompt = 0;
    int64_t completion = 0;
    std::optional<int64_t> cached;  // of the prompt
    std::optional<int64_t> reasoning;
  };

  void Handle(ChoiceEvent event, std::string& out);
  void AddChoice(const Choice& choice, TokenCounts& counts) const;
  static Json UsageJson(const TokenCounts& counts);
  Json TotalUsage() const;

  RouterMetrics& metrics_;
  const std::shared_ptr<GenerationCall> call_;
  const std::string head_;
  std::vector<Choice> choices_;
};

std::unique_ptr<PendingReply> MakeCompletionReply(const ApiContext& context, AnswerOptions options,
                                                  StartedRequest started);
std::unique_ptr<PendingReply> MakeChatReply(const ApiContext& context, AnswerOptions options,
                                            StartedRequest started);

}  // namespace sheaf

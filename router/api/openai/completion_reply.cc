// The shapes of /v1/completions.
#include <utility>

#include "router/api/openai/generation_reply.h"
#include "router/api/openai/logprobs_json.h"

namespace sheaf {
namespace {

class CompletionReply final : public GenerationReply {
 public:
  CompletionReply(const ApiContext& context, AnswerOptions options, StartedRequest started)
      : GenerationReply(context, std::move(options), std::move(started)),
        logprobs_(prepared_.prompts.size() * static_cast<size_t>(prepared_.n),
                  CompletionLogprobs({codec_, options_.parsed.return_tokens_as_token_ids,
                                      options_.parsed.request.skip_special_tokens})) {}

 private:
  void StreamToken(int index, Choice& choice, const TokenEvent& event, std::string& out) override {
    Begin(index, choice, out);
    // A chunk without news is left out: the text waits for the rest of a character or of a stop
    // string.
    const bool news = !event.text.empty() || has_logprobs_ || options_.parsed.return_token_ids ||
                      options_.parsed.continuous_usage_stats;
    if (!news) return;
    Json logprobs = nullptr;
    if (has_logprobs_) {
      CompletionLogprobs& formatted = logprobs_[static_cast<size_t>(index)];
      formatted.Add(event.token, event.logprobs);
      logprobs = formatted.Take();
    }
    Json chunk = ChoiceJson(index, event.text, std::move(logprobs));
    if (options_.parsed.return_token_ids) chunk["token_ids"] = Json::array({event.token});
    AppendChunk(std::move(chunk), &choice, out);
  }

  void StreamEnd(int index, Choice& choice, const GenerationEnd& end, std::string& out) override {
    Begin(index, choice, out);
    Json chunk = ChoiceJson(index, end.text, nullptr);
    SetEnd(chunk, end);
    if (options_.parsed.return_token_ids) chunk["token_ids"] = Json::array();
    AppendChunk(std::move(chunk), &choice, out);
  }

  void CollectToken(int, Choice& choice, const TokenEvent& event) override {
    choice.text += event.text;
  }
  void CollectEnd(int, Choice& choice, const GenerationEnd& end) override {
    choice.text += end.text;
  }
  void SkipPrior(int index, const PriorOutput& prior) override {
    // Offsets count from the beginning of the whole output.
    if (!has_logprobs_) return;
    CompletionLogprobs& formatted = logprobs_[static_cast<size_t>(index)];
    for (const TokenEvent& event : prior) formatted.Add(event.token, std::nullopt);
    formatted.Take();
  }
  std::optional<int32_t> ReasoningTokens(int) const override { return std::nullopt; }
  int UndeclaredCalls() const override { return 0; }

  Json WholeAnswer(std::vector<Choice>& choices) override {
    Json answer = Head();
    Json& list = answer["choices"] = Json::array();
    for (size_t i = 0; i < choices.size(); ++i) {
      Choice& choice = choices[i];
      Json logprobs = nullptr;
      if (has_logprobs_) {
        CompletionLogprobs& formatted = logprobs_[i];
        AddEchoed(choice, formatted);
        for (size_t t = 0; t < choice.tokens.size(); ++t)
          formatted.Add(choice.tokens[t], choice.logprobs[t]);
        logprobs = formatted.TakeLast();
      }
      const std::string text =
          (options_.parsed.request.echo ? choice.prompt->text : std::string()) + choice.text;
      Json json = ChoiceJson(static_cast<int>(i), text, std::move(logprobs));
      SetEnd(json, *choice.end);
      if (options_.parsed.show_prompt_logprobs && choice.prompt_logprobs) {
        json["prompt_logprobs"] = PromptLogprobsJson(codec_, *choice.prompt_logprobs);
      }
      if (options_.parsed.return_token_ids) {
        json["prompt_token_ids"] = choice.prompt->tokens;
        json["token_ids"] = choice.tokens;
      }
      list.push_back(std::move(json));
    }
    return answer;
  }

  // The first chunk of a choice that must say something before its first token: the echoed prompt,
  // its ids.
  void Begin(int index, Choice& choice, std::string& out) {
    if (std::exchange(choice.begun, true)) return;
    const bool echo = options_.parsed.request.echo;
    if (!echo && !options_.parsed.return_token_ids) return;
    Json logprobs = nullptr;
    if (echo && has_logprobs_) {
      CompletionLogprobs& formatted = logprobs_[static_cast<size_t>(index)];
      AddEchoed(choice, formatted);
      logprobs = formatted.Take();
      choice.prompt_logprobs.reset();
    }
    Json chunk = ChoiceJson(index, echo ? choice.prompt->text : std::string(), std::move(logprobs));
    if (options_.parsed.return_token_ids) {
      chunk["prompt_token_ids"] = choice.prompt->tokens;
      chunk["token_ids"] = Json::array();
    }
    AppendChunk(std::move(chunk), nullptr, out);
  }

  void AddEchoed(const Choice& choice, CompletionLogprobs& formatted) const {
    if (!options_.parsed.request.echo || !choice.prompt_logprobs) return;
    const std::vector<TokenId>& tokens = choice.prompt->tokens;
    for (size_t t = 0; t < tokens.size() && t < choice.prompt_logprobs->size(); ++t) {
      formatted.Add(tokens[t], (*choice.prompt_logprobs)[t]);
    }
  }

  Json ChoiceJson(int index, const std::string& text, Json logprobs) const {
    return {{"index", index},
            {"text", text},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", nullptr},
            {"stop_reason", nullptr}};
  }

  void SetEnd(Json& choice, const GenerationEnd& end) const {
    choice["finish_reason"] = FinishReasonName(end.reason);
    choice["stop_reason"] = StopReason(end);
  }

  std::vector<CompletionLogprobs> logprobs_;  // one a choice
};

}  // namespace

std::unique_ptr<PendingReply> MakeCompletionReply(const ApiContext& context, AnswerOptions options,
                                                  StartedRequest started) {
  return std::make_unique<CompletionReply>(context, std::move(options), std::move(started));
}

}  // namespace sheaf

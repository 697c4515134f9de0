// The shapes of /v1/completions.
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "router/api/openai/generation_reply.h"
#include "router/api/openai/json_append.h"
#include "router/api/openai/logprobs_json.h"

namespace sheaf {
namespace {

class CompletionReply final : public GenerationReply {
 public:
  CompletionReply(const ApiContext& context, AnswerOptions options, StartedRequest started)
      : GenerationReply(context, std::move(options), std::move(started)),
        logprobs_(prepared_.prompts.size() * static_cast<size_t>(prepared_.n),
                  CompletionLogprobs({codec_, options_.parsed.return_tokens_as_token_ids,
                                      options_.parsed.request.skip_special_tokens})),
        unsent_echo_(logprobs_.size()) {}

 private:
  void TakePromptLogprobs(int index, Choice& choice, int first, const PromptLogprobs& piece,
                          std::string& out) override {
    if (!options_.parsed.request.echo || !has_logprobs_) return;
    CompletionLogprobs& formatted = logprobs_[static_cast<size_t>(index)];
    const std::vector<TokenId>& tokens = choice.prompt->tokens;
    for (size_t t = 0; t < piece.size() && first + t < tokens.size(); ++t) {
      formatted.Add(tokens[first + t], piece[t]);
      if (streams() && ++unsent_echo_[static_cast<size_t>(index)] == kEchoedTokensAChunk) {
        SendEcho(index, choice, out);
      }
    }
  }

  // What is there of the echoed prompt's log-probabilities.
  void SendEcho(int index, Choice& choice, std::string& out) {
    if (!choice.begun) return Begin(index, choice, out);
    int& unsent = unsent_echo_[static_cast<size_t>(index)];
    if (std::exchange(unsent, 0) == 0) return;
    const std::string logprobs = logprobs_[static_cast<size_t>(index)].Take();
    AppendChunk(ChoiceJson(index, {}, logprobs) + "}", nullptr, out);
  }

  void StreamToken(int index, Choice& choice, const TokenEvent& event, std::string& out) override {
    SendEcho(index, choice, out);
    // A chunk without news is left out: the text waits for the rest of a character or of a stop
    // string.
    const bool news = !event.text.empty() || has_logprobs_ || options_.parsed.return_token_ids ||
                      options_.parsed.continuous_usage_stats;
    if (!news) return;
    std::string logprobs = "null";
    if (has_logprobs_) {
      CompletionLogprobs& formatted = logprobs_[static_cast<size_t>(index)];
      formatted.Add(event.token, event.logprobs);
      logprobs = formatted.Take();
    }
    std::string chunk = ChoiceJson(index, event.text, logprobs);
    if (options_.parsed.return_token_ids) AppendTokenIds({&event.token, 1}, chunk);
    AppendChunk(chunk += '}', &choice, out);
  }

  void StreamEnd(int index, Choice& choice, const GenerationEnd& end, std::string& out) override {
    SendEcho(index, choice, out);
    std::string chunk = ChoiceJson(index, end.text, "null", &end);
    if (options_.parsed.return_token_ids) AppendTokenIds({}, chunk);
    AppendChunk(chunk += '}', &choice, out);
  }

  void CollectToken(int index, Choice& choice, const TokenEvent& event) override {
    choice.text += event.text;
    if (has_logprobs_) logprobs_[static_cast<size_t>(index)].Add(event.token, event.logprobs);
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

  void AppendWholeAnswer(std::vector<Choice>& choices, std::string& out) override {
    out += head();
    out += ",\"choices\":[";
    for (size_t i = 0; i < choices.size(); ++i) {
      Choice& choice = choices[i];
      if (i > 0) out += ',';
      const std::string logprobs = has_logprobs_ ? logprobs_[i].TakeLast() : "null";
      const std::string text =
          (options_.parsed.request.echo ? choice.prompt->text : std::string()) + choice.text;
      out += ChoiceJson(static_cast<int>(i), text, logprobs, &*choice.end);
      AppendPromptLogprobsField(choice, out);
      if (options_.parsed.return_token_ids) {
        AppendPromptIds(choice, out);
        AppendTokenIds(choice.tokens, out);
      }
      out += '}';
    }
    out += ']';
  }

  // The first chunk of a choice that must say something before its first token: the echoed prompt
  // with as many of its log-probabilities as are known, its ids.
  void Begin(int index, Choice& choice, std::string& out) {
    if (std::exchange(choice.begun, true)) return;
    unsent_echo_[static_cast<size_t>(index)] = 0;
    const bool echo = options_.parsed.request.echo;
    if (!echo && !options_.parsed.return_token_ids) return;
    std::string chunk =
        ChoiceJson(index, echo ? choice.prompt->text : std::string(),
                   echo && has_logprobs_ ? logprobs_[static_cast<size_t>(index)].Take() : "null");
    if (options_.parsed.return_token_ids) {
      AppendPromptIds(choice, chunk);
      AppendTokenIds({}, chunk);
    }
    AppendChunk(chunk += '}', nullptr, out);
  }

  // Without the closing brace. `logprobs`: JSON text.
  std::string ChoiceJson(int index, std::string_view text, std::string_view logprobs,
                         const GenerationEnd* end = nullptr) const {
    std::string json = "{\"index\":";
    AppendJsonInteger(index, json);
    json += ",\"text\":";
    AppendQuoted(text, json);
    json += ",\"logprobs\":";
    json += logprobs;
    json += ",\"finish_reason\":";
    if (end == nullptr) return json += "null,\"stop_reason\":null";
    AppendQuoted(FinishReasonName(end->reason), json);
    json += ",\"stop_reason\":";
    return json += JsonText(StopReason(*end));
  }

  static void AppendPromptIds(const Choice& choice, std::string& json) {
    json += ",\"prompt_token_ids\":";
    AppendJsonIds(choice.prompt->tokens, json);
  }
  static void AppendTokenIds(std::span<const TokenId> ids, std::string& json) {
    json += ",\"token_ids\":";
    AppendJsonIds(ids, json);
  }

  // A long prompt's log-probabilities leave in many chunks, the first of which has its text.
  static constexpr int kEchoedTokensAChunk = 256;

  std::vector<CompletionLogprobs> logprobs_;  // one a choice
  std::vector<int> unsent_echo_;              // likewise: tokens of the prompt, of a stream
};

}  // namespace

std::unique_ptr<PendingReply> MakeCompletionReply(const ApiContext& context, AnswerOptions options,
                                                  StartedRequest started) {
  return std::make_unique<CompletionReply>(context, std::move(options), std::move(started));
}

}  // namespace sheaf

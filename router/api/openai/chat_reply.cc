// The shapes of /v1/chat/completions.
#include <utility>

#include "router/api/openai/generation_reply.h"
#include "router/api/openai/logprobs_json.h"

namespace sheaf {
namespace {

class ChatReply final : public GenerationReply {
 public:
  ChatReply(const TextCodec& codec, AnswerOptions options, StartedRequest started)
      : GenerationReply(codec, std::move(options), std::move(started)),
        style_{codec_, options_.parsed.return_tokens_as_token_ids} {}

 private:
  void StreamToken(int index, Choice& choice, const TokenEvent& event, std::string& out) override {
    Begin(index, choice, out);
    const bool news = !event.text.empty() || has_logprobs_ || options_.parsed.return_token_ids ||
                      options_.parsed.continuous_usage_stats;
    if (!news) return;
    Json chunk = ChunkJson(index, {{"content", event.text}});
    if (event.logprobs) {
      chunk["logprobs"] = {{"content", Json::array({ChatLogprob(style_, *event.logprobs)})}};
    }
    if (options_.parsed.return_token_ids) chunk["token_ids"] = Json::array({event.token});
    AppendChunk(std::move(chunk), &choice, out);
  }

  void StreamEnd(int index, Choice& choice, const GenerationEnd& end, std::string& out) override {
    Begin(index, choice, out);
    Json delta = Json::object();
    if (!end.text.empty()) delta["content"] = end.text;
    Json chunk = ChunkJson(index, std::move(delta));
    chunk["finish_reason"] = FinishReasonName(end.reason);
    chunk["stop_reason"] = StopReason(end);
    AppendChunk(std::move(chunk), &choice, out);
  }

  // The role comes with the first token, not before: load generators take the first chunk as the
  // first token.
  void Begin(int index, Choice& choice, std::string& out) {
    if (std::exchange(choice.begun, true)) return;
    Json further = Json::object();
    if (options_.parsed.return_token_ids) further["prompt_token_ids"] = choice.prompt->tokens;
    AppendChunk(ChunkJson(index, {{"role", "assistant"}, {"content", ""}}), nullptr, out,
                std::move(further));
  }

  Json WholeAnswer(std::vector<Choice>& choices) override {
    Json answer = Head();
    Json& list = answer["choices"] = Json::array();
    for (size_t i = 0; i < choices.size(); ++i) {
      const Choice& choice = choices[i];
      Json logprobs = nullptr;
      if (has_logprobs_) {
        Json content = Json::array();
        for (const auto& entry : choice.logprobs) {
          if (entry) content.push_back(ChatLogprob(style_, *entry));
        }
        logprobs = {{"content", std::move(content)}};
      }
      Json json = {
          {"index", i},
          {"message", {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}}},
          {"logprobs", std::move(logprobs)},
          {"finish_reason", FinishReasonName(choice.end->reason)},
          {"stop_reason", StopReason(*choice.end)}};
      if (options_.parsed.return_token_ids) json["token_ids"] = choice.tokens;
      list.push_back(std::move(json));
    }
    // One prompt, so these belong to the answer and not to a choice.
    const Choice& first = choices.front();
    if (options_.parsed.show_prompt_logprobs && first.prompt_logprobs) {
      answer["prompt_logprobs"] = PromptLogprobsJson(codec_, *first.prompt_logprobs);
    }
    if (options_.parsed.return_token_ids) answer["prompt_token_ids"] = first.prompt->tokens;
    return answer;
  }

  static Json ChunkJson(int index, Json delta) {
    return {{"index", index},
            {"delta", std::move(delta)},
            {"logprobs", nullptr},
            {"finish_reason", nullptr}};
  }

  const LogprobStyle style_;
};

}  // namespace

std::unique_ptr<PendingReply> MakeChatReply(const TextCodec& codec, AnswerOptions options,
                                            StartedRequest started) {
  return std::make_unique<ChatReply>(codec, std::move(options), std::move(started));
}

}  // namespace sheaf

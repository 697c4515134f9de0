// The shapes of /v1/chat/completions.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "router/api/generation/chat_output.h"
#include "router/api/openai/generation_reply.h"
#include "router/api/openai/logprobs_json.h"

namespace sheaf {
namespace {

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

// A call of a whole answer.
struct Call {
  std::string id;
  std::string name;
  std::string arguments;
};

class ChatReply final : public GenerationReply {
 public:
  ChatReply(const ApiContext& context, AnswerOptions options, StartedRequest started)
      : GenerationReply(context, std::move(options), std::move(started)),
        style_{codec_, options_.parsed.return_tokens_as_token_ids,
               options_.parsed.request.skip_special_tokens} {
    for (size_t i = 0; i < static_cast<size_t>(prepared_.n); ++i) {
      messages_.push_back(std::make_unique<Message>(
          ChatOutput(prepared_.output, codec_, options_.parsed.request.skip_special_tokens,
                     prepared_.call_id_seed + (static_cast<uint64_t>(i) << 32))));
    }
  }

 private:
  // What a choice's output has been told apart into.
  struct Message {
    explicit Message(ChatOutput parsed) : output(std::move(parsed)) {}
    ChatOutput output;
    // Of a whole answer.
    std::string reasoning;
    std::string content;
    std::vector<Call> calls;
  };

  void StreamToken(int index, Choice& choice, const TokenEvent& event, std::string& out) override {
    Begin(index, choice, out);
    Message& message = MessageOf(index);
    std::vector<OutputEvent> events;
    message.output.Push(event, events);
    std::vector<Json> deltas = Deltas(events);
    // What belongs to the token and not to its text goes with the first of its chunks.
    const bool has_more =
        has_logprobs_ || options_.parsed.return_token_ids || options_.parsed.continuous_usage_stats;
    if (deltas.empty() && has_more) deltas.push_back(Json::object());
    for (size_t i = 0; i < deltas.size(); ++i) {
      Json chunk = ChunkJson(index, std::move(deltas[i]));
      if (i == 0 && event.logprobs) {
        chunk["logprobs"] = {{"content", Json::array({ChatLogprob(style_, *event.logprobs)})}};
      }
      if (i == 0 && options_.parsed.return_token_ids) {
        chunk["token_ids"] = Json::array({event.token});
      }
      AppendChunk(std::move(chunk), &choice, out);
    }
  }

  void StreamEnd(int index, Choice& choice, const GenerationEnd& end, std::string& out) override {
    Begin(index, choice, out);
    Message& message = MessageOf(index);
    std::vector<OutputEvent> events;
    message.output.Finish(end, events);
    // The last text goes before the end: some clients do not look at the text of the last chunk.
    for (Json& delta : Deltas(events)) {
      AppendChunk(ChunkJson(index, std::move(delta)), &choice, out);
    }
    Json chunk = ChunkJson(index, Json::object());
    SetEnd(chunk, end, message);
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

  std::vector<Json> Deltas(const std::vector<OutputEvent>& events) const {
    std::vector<Json> deltas;
    for (const OutputEvent& event : events) {
      std::visit(
          Overloaded{[&](const ReasoningText& thoughts) {
                       Json delta = Json::object();
                       AddReasoning(delta, thoughts.text);
                       if (!delta.empty()) deltas.push_back(std::move(delta));
                     },
                     [&](const ContentText& content) {
                       deltas.push_back({{"content", content.text}});
                     },
                     [&](const CallBegin& call) {
                       deltas.push_back(
                           CallDelta({{"index", call.index},
                                      {"id", call.id},
                                      {"type", "function"},
                                      {"function", {{"name", call.name}, {"arguments", ""}}}}));
                     },
                     [&](const CallArguments& call) {
                       deltas.push_back(CallDelta(
                           {{"index", call.index}, {"function", {{"arguments", call.json}}}}));
                     },
                     [](const CallEnd&) {}},
          event);
    }
    return deltas;
  }

  static Json CallDelta(Json call) { return {{"tool_calls", Json::array({std::move(call)})}}; }

  void AddReasoning(Json& to, const std::string& text) const {
    if (!options_.include_reasoning) return;
    if (options_.settings.reasoning_field) to["reasoning"] = text;
    if (options_.settings.reasoning_content_field) to["reasoning_content"] = text;
  }

  void CollectToken(int index, Choice&, const TokenEvent& event) override {
    std::vector<OutputEvent> events;
    MessageOf(index).output.Push(event, events);
    Collect(index, events);
  }

  void CollectEnd(int index, Choice&, const GenerationEnd& end) override {
    std::vector<OutputEvent> events;
    MessageOf(index).output.Finish(end, events);
    Collect(index, events);
  }

  void SkipPrior(int index, const PriorOutput& prior) override {
    Message& message = MessageOf(index);
    std::vector<OutputEvent> known;
    for (const TokenEvent& event : prior) message.output.Push(event, known);
    // A call that has only begun goes on in this answer.
    for (OutputEvent& event : known) {
      if (auto* call = std::get_if<CallBegin>(&event)) {
        message.calls.push_back({std::move(call->id), std::move(call->name), {}});
      } else if (std::holds_alternative<CallEnd>(event)) {
        message.calls.clear();
      }
    }
  }

  void Collect(int index, std::vector<OutputEvent>& events) {
    Message& message = MessageOf(index);
    for (OutputEvent& event : events) {
      std::visit(
          Overloaded{
              [&](const ReasoningText& thoughts) { message.reasoning += thoughts.text; },
              [&](const ContentText& content) { message.content += content.text; },
              [&](CallBegin& call) {
                message.calls.push_back({std::move(call.id), std::move(call.name), {}});
              },
              [&](const CallArguments& call) { message.calls.back().arguments += call.json; },
              [](const CallEnd&) {}},
          event);
    }
  }

  Json WholeAnswer(std::vector<Choice>& choices) override {
    Json answer = Head();
    Json& list = answer["choices"] = Json::array();
    for (size_t i = 0; i < choices.size(); ++i) {
      const Choice& choice = choices[i];
      const Message& message = MessageOf(static_cast<int>(i));
      Json logprobs = nullptr;
      if (has_logprobs_) {
        Json content = Json::array();
        for (const auto& entry : choice.logprobs) {
          if (entry) content.push_back(ChatLogprob(style_, *entry));
        }
        logprobs = {{"content", std::move(content)}};
      }
      Json json = {
          {"index", i}, {"message", MessageJson(message)}, {"logprobs", std::move(logprobs)}};
      SetEnd(json, *choice.end, message);
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

  Json MessageJson(const Message& message) const {
    Json json = {{"role", "assistant"}, {"content", message.content}, {"refusal", nullptr}};
    // Thoughts or calls alone have no content; an answer of nothing at all has an empty one.
    if (message.content.empty() && (!message.reasoning.empty() || !message.calls.empty())) {
      json["content"] = nullptr;
    }
    if (!message.reasoning.empty()) AddReasoning(json, message.reasoning);
    if (!message.calls.empty()) {
      Json& calls = json["tool_calls"] = Json::array();
      for (const Call& call : message.calls) {
        calls.push_back({{"id", call.id},
                         {"type", "function"},
                         {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
      }
    }
    return json;
  }

  // "tool_calls" when the model ended by itself and has called: what was cut off is "length".
  void SetEnd(Json& choice, const GenerationEnd& end, const Message& message) const {
    const bool called = end.reason == FinishReason::kStop && message.output.complete_calls() > 0;
    choice["finish_reason"] = called ? "tool_calls" : FinishReasonName(end.reason);
    choice["stop_reason"] = StopReason(end);
  }

  std::optional<int32_t> ReasoningTokens(int index) const override {
    return messages_[static_cast<size_t>(index)]->output.reasoning_tokens();
  }
  int UndeclaredCalls() const override {
    int calls = 0;
    for (const auto& message : messages_) calls += message->output.undeclared_calls();
    return calls;
  }

  Message& MessageOf(int index) { return *messages_[static_cast<size_t>(index)]; }

  static Json ChunkJson(int index, Json delta) {
    return {{"index", index},
            {"delta", std::move(delta)},
            {"logprobs", nullptr},
            {"finish_reason", nullptr}};
  }

  const LogprobStyle style_;
  std::vector<std::unique_ptr<Message>> messages_;  // one a choice
};

}  // namespace

std::unique_ptr<PendingReply> MakeChatReply(const ApiContext& context, AnswerOptions options,
                                            StartedRequest started) {
  return std::make_unique<ChatReply>(context, std::move(options), std::move(started));
}

}  // namespace sheaf

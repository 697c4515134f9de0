// The shapes of /v1/chat/completions.
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "router/api/generation/chat_output.h"
#include "router/api/openai/generation_reply.h"
#include "router/api/openai/json_append.h"
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
    std::string logprobs;  // the inside of logprobs.content
  };

  void TakePromptLogprobs(int, Choice&, int, const PromptLogprobs&, std::string&) override {}

  void StreamToken(int index, Choice& choice, const TokenEvent& event, std::string& out) override {
    Begin(index, choice, out);
    Message& message = MessageOf(index);
    std::vector<OutputEvent> events;
    message.output.Push(event, events);
    // What belongs to the token and not to its text goes with the first of its chunks.
    const bool has_more =
        has_logprobs_ || options_.parsed.return_token_ids || options_.parsed.continuous_usage_stats;
    bool first = true;
    const auto append = [&](std::string_view delta) {
      std::string chunk = ChunkBegin(index, delta);
      if (first && event.logprobs) {
        chunk += "{\"content\":[";
        AppendChatLogprob(style_, *event.logprobs, chunk);
        chunk += "]}";
      } else {
        chunk += "null";
      }
      chunk += ",\"finish_reason\":null";
      if (first && options_.parsed.return_token_ids) {
        chunk += ",\"token_ids\":";
        AppendJsonIds({&event.token, 1}, chunk);
      }
      AppendChunk(chunk += '}', &choice, out);
      first = false;
    };
    for (const OutputEvent& output : events) {
      if (const std::string delta = Delta(output); !delta.empty()) append(delta);
    }
    if (first && has_more) append("{}");
  }

  void StreamEnd(int index, Choice& choice, const GenerationEnd& end, std::string& out) override {
    Begin(index, choice, out);
    Message& message = MessageOf(index);
    std::vector<OutputEvent> events;
    message.output.Finish(end, events);
    // The last text goes before the end: some clients do not look at the text of the last chunk.
    for (const OutputEvent& output : events) {
      const std::string delta = Delta(output);
      if (delta.empty()) continue;
      AppendChunk(ChunkBegin(index, delta) + "null,\"finish_reason\":null}", &choice, out);
    }
    std::string chunk = ChunkBegin(index, "{}") + "null";
    AppendEnd(end, message, chunk);
    AppendChunk(chunk += '}', &choice, out);
  }

  // The role comes with the first token, not before: load generators take the first chunk as the
  // first token.
  void Begin(int index, Choice& choice, std::string& out) {
    if (std::exchange(choice.begun, true)) return;
    std::string further;
    if (options_.parsed.return_token_ids) AppendPromptIds(choice, further);
    AppendChunk(ChunkBegin(index, "{\"role\":\"assistant\",\"content\":\"\"}") +
                    "null,\"finish_reason\":null}",
                nullptr, out, further);
  }

  // {"index", "delta", "logprobs": without its value. `delta`: JSON text.
  static std::string ChunkBegin(int index, std::string_view delta) {
    std::string chunk = "{\"index\":";
    AppendJsonInteger(index, chunk);
    chunk += ",\"delta\":";
    chunk += delta;
    return chunk += ",\"logprobs\":";
  }

  static void AppendPromptIds(const Choice& choice, std::string& json) {
    json += ",\"prompt_token_ids\":";
    AppendJsonIds(choice.prompt->tokens, json);
  }

  // As JSON text; empty: nothing to say.
  std::string Delta(const OutputEvent& event) const {
    return std::visit(
        Overloaded{
            [&](const ReasoningText& thoughts) { return ReasoningDelta(thoughts.text); },
            [&](const ContentText& content) {
              std::string delta = "{\"content\":";
              AppendQuoted(content.text, delta);
              return delta += '}';
            },
            [&](const CallBegin& call) {
              return JsonText(CallDelta({{"index", call.index},
                                         {"id", call.id},
                                         {"type", "function"},
                                         {"function", {{"name", call.name}, {"arguments", ""}}}}));
            },
            [&](const CallArguments& call) {
              return JsonText(
                  CallDelta({{"index", call.index}, {"function", {{"arguments", call.json}}}}));
            },
            [](const CallEnd&) { return std::string(); }},
        event);
  }

  std::string ReasoningDelta(const std::string& text) const {
    if (!options_.include_reasoning) return {};
    std::string quoted;
    AppendQuoted(text, quoted);
    std::string delta;
    const auto add = [&](bool wanted, const char* name) {
      if (!wanted) return;
      delta += delta.empty() ? "{\"" : ",\"";
      delta += name;
      delta += "\":";
      delta += quoted;
    };
    add(options_.settings.reasoning_field, "reasoning");
    add(options_.settings.reasoning_content_field, "reasoning_content");
    if (!delta.empty()) delta += '}';
    return delta;
  }

  static Json CallDelta(Json call) { return {{"tool_calls", Json::array({std::move(call)})}}; }

  void AddReasoning(Json& to, const std::string& text) const {
    if (!options_.include_reasoning) return;
    if (options_.settings.reasoning_field) to["reasoning"] = text;
    if (options_.settings.reasoning_content_field) to["reasoning_content"] = text;
  }

  void CollectToken(int index, Choice&, const TokenEvent& event) override {
    if (event.logprobs) {
      std::string& logprobs = MessageOf(index).logprobs;
      if (!logprobs.empty()) logprobs += ',';
      AppendChatLogprob(style_, *event.logprobs, logprobs);
    }
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

  void AppendWholeAnswer(std::vector<Choice>& choices, std::string& out) override {
    out += head();
    out += ",\"choices\":[";
    for (size_t i = 0; i < choices.size(); ++i) {
      const Choice& choice = choices[i];
      Message& message = MessageOf(static_cast<int>(i));
      out += i > 0 ? ",{\"index\":" : "{\"index\":";
      AppendJsonInteger(static_cast<int64_t>(i), out);
      out += ",\"message\":";
      out += JsonText(MessageJson(message));
      out += ",\"logprobs\":";
      if (has_logprobs_) {
        out += "{\"content\":[";
        out += std::exchange(message.logprobs, {});
        out += "]}";
      } else {
        out += "null";
      }
      AppendEnd(*choice.end, message, out);
      if (options_.parsed.return_token_ids) {
        out += ",\"token_ids\":";
        AppendJsonIds(choice.tokens, out);
      }
      out += '}';
    }
    out += ']';
    // One prompt, so these belong to the answer and not to a choice.
    AppendPromptLogprobsField(choices.front(), out);
    if (options_.parsed.return_token_ids) AppendPromptIds(choices.front(), out);
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
  void AppendEnd(const GenerationEnd& end, const Message& message, std::string& json) const {
    const bool called = end.reason == FinishReason::kStop && message.output.complete_calls() > 0;
    json += ",\"finish_reason\":";
    AppendQuoted(called ? "tool_calls" : FinishReasonName(end.reason), json);
    json += ",\"stop_reason\":";
    json += JsonText(StopReason(end));
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

  const LogprobStyle style_;
  std::vector<std::unique_ptr<Message>> messages_;  // one a choice
};

}  // namespace

std::unique_ptr<PendingReply> MakeChatReply(const ApiContext& context, AnswerOptions options,
                                            StartedRequest started) {
  return std::make_unique<ChatReply>(context, std::move(options), std::move(started));
}

}  // namespace sheaf

#include "router/api/grpc/grpc_answer.h"

#include <utility>
#include <variant>

namespace sheaf {
namespace {

using Kind = DeltaWriter::Kind;

Kind KindOf(const OutputEvent& event) {
  if (std::holds_alternative<ReasoningText>(event)) return Kind::kReasoning;
  return std::holds_alternative<ContentText>(event) ? Kind::kText : Kind::kToolCalls;
}

struct EventWriter {
  DeltaWriter& writer;

  void operator()(const ReasoningText& event) { writer.AddReasoning(event.text); }
  void operator()(const ContentText& event) { writer.AddText(event.text); }
  void operator()(const CallBegin& event) { writer.BeginCall(event.index, event.id, event.name); }
  void operator()(const CallArguments& event) { writer.AddCallArguments(event.index, event.json); }
  void operator()(const CallEnd& event) { writer.EndCall(event.index); }
};

void Write(const std::vector<OutputEvent>& events, DeltaWriter& writer) {
  for (const OutputEvent& event : events) std::visit(EventWriter{writer}, event);
}

}  // namespace

v1::GenerateResponse PromptMessage(const PreparedRequest& prepared, uint64_t seed,
                                   const std::string& model, bool with_token_ids) {
  v1::GenerateResponse message;
  v1::PromptInfo* prompt = message.mutable_prompt();
  const std::vector<TokenId>& tokens = prepared.prompts.front().tokens;
  prompt->set_request_id(prepared.request_id);
  prompt->set_model(model);
  prompt->set_prompt_tokens(static_cast<uint32_t>(tokens.size()));
  prompt->set_seed(seed);
  if (with_token_ids) prompt->mutable_token_ids()->Add(tokens.begin(), tokens.end());
  return message;
}

GrpcAnswer::GrpcAnswer(const ParsedRequest& request, const PreparedRequest& prepared,
                       const TextCodec& codec)
    : codec_(codec), with_reasoning_(!request.chat || request.chat->include_reasoning) {
  if (request.chat) {
    chat_.emplace(prepared.output, codec, request.skip_special_tokens, prepared.call_id_seed);
  }
}

void GrpcAnswer::Append(const std::vector<ChoiceEvent>& events,
                        std::vector<v1::GenerateResponse>& messages) {
  DeltaWriter writer(codec_, messages);
  for (const ChoiceEvent& event : events) {
    if (const auto* prompt = std::get_if<PromptLogprobs>(&event.what)) {
      writer.AddPromptLogprobs(*prompt);
    } else if (const auto* prior = std::get_if<PriorOutput>(&event.what)) {
      std::vector<OutputEvent> known;
      if (chat_) {
        for (const TokenEvent& token : *prior) chat_->Push(token, known);
      }
    } else if (const auto* token = std::get_if<TokenEvent>(&event.what)) {
      AppendToken(*token, writer);
    } else {
      AppendEnd(std::get<GenerationEnd>(event.what), writer, messages);
    }
  }
}

void GrpcAnswer::AppendToken(const TokenEvent& token, DeltaWriter& writer) {
  if (!chat_) {
    writer.AddToken(token, Kind::kText);
    writer.AddText(token.text);
    return;
  }
  std::vector<OutputEvent> events;
  chat_->Push(token, events);
  Filter(events);
  writer.AddToken(token, events.empty() ? Kind::kNone : KindOf(events.front()));
  Write(events, writer);
}

void GrpcAnswer::AppendEnd(const GenerationEnd& end, DeltaWriter& writer,
                           std::vector<v1::GenerateResponse>& messages) {
  v1::Finished finished;
  finished.set_reason(end.reason == FinishReason::kLength ? v1::FINISH_REASON_LENGTH
                                                          : v1::FINISH_REASON_STOP);
  if (end.stop_string) {
    finished.set_stop_string(*end.stop_string);
  } else if (end.stop_token) {
    finished.set_stop_token_id(static_cast<uint32_t>(*end.stop_token));
  }
  v1::Usage& usage = *finished.mutable_usage();
  usage.set_prompt_tokens(static_cast<uint32_t>(end.prompt_tokens));
  usage.set_cached_tokens(static_cast<uint32_t>(end.cached_tokens));
  usage.set_completion_tokens(static_cast<uint32_t>(end.completion_tokens));
  if (chat_) {
    std::vector<OutputEvent> events;
    chat_->Finish(end, events);
    Filter(events);
    Write(events, writer);
    usage.set_reasoning_tokens(static_cast<uint32_t>(chat_->reasoning_tokens()));
    if (end.reason == FinishReason::kStop && chat_->complete_calls() > 0) {
      finished.set_reason(v1::FINISH_REASON_TOOL_CALLS);
    }
  } else {
    finished.set_text(end.text);
  }
  *messages.emplace_back().mutable_finished() = std::move(finished);
}

void GrpcAnswer::Filter(std::vector<OutputEvent>& events) const {
  if (with_reasoning_) return;
  std::erase_if(events, [](const OutputEvent& event) {
    return std::holds_alternative<ReasoningText>(event);
  });
}

}  // namespace sheaf

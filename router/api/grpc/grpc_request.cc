#include "router/api/grpc/grpc_request.h"

#include <utility>

#include "router/api/request/json_fields.h"

namespace sheaf {
namespace {

// An absent scalar stays absent.
template <typename To, typename From>
void Read(bool has, From value, std::optional<To>& to) {
  if (has) to = static_cast<To>(value);
}

ChatInput ParseChat(const v1::ChatInput& chat) {
  Json messages = Json::array();
  for (const v1::ChatMessage& message : chat.messages()) {
    Json& json =
        messages.emplace_back(Json{{"role", message.role()}, {"content", message.content()}});
    if (message.has_reasoning_content()) json["reasoning_content"] = message.reasoning_content();
  }
  ChatInput input;
  input.messages_json = JsonText(messages);
  input.template_arguments_json = chat.template_arguments_json();
  Read(chat.has_add_generation_prompt(), chat.add_generation_prompt(), input.add_generation_prompt);
  return input;
}

void ReadSampling(const v1::SamplingOptions& sampling, ParsedRequest& request) {
  Read(sampling.has_temperature(), sampling.temperature(), request.temperature);
  Read(sampling.has_top_p(), sampling.top_p(), request.top_p);
  Read(sampling.has_top_k(), sampling.top_k(), request.top_k);
  Read(sampling.has_min_p(), sampling.min_p(), request.min_p);
  Read(sampling.has_repetition_penalty(), sampling.repetition_penalty(),
       request.repetition_penalty);
  Read(sampling.has_frequency_penalty(), sampling.frequency_penalty(), request.frequency_penalty);
  Read(sampling.has_presence_penalty(), sampling.presence_penalty(), request.presence_penalty);
  Read(sampling.has_seed(), sampling.seed(), request.seed);
  for (const auto& [id, bias] : sampling.logit_bias()) request.logit_bias.emplace_back(id, bias);
  request.allowed_token_ids.assign(sampling.allowed_token_ids().begin(),
                                   sampling.allowed_token_ids().end());
}

void ReadStop(const v1::StopOptions& stop, ParsedRequest& request) {
  Read(stop.has_max_tokens(), stop.max_tokens(), request.max_tokens);
  Read(stop.has_min_tokens(), stop.min_tokens(), request.min_tokens);
  request.stop.assign(stop.stop().begin(), stop.stop().end());
  request.stop_token_ids.assign(stop.stop_token_ids().begin(), stop.stop_token_ids().end());
  request.ignore_eos = stop.ignore_eos();
  request.include_stop_string = stop.include_stop_string();
}

void Fill(const TokenLogprob& from, const TextCodec& codec, v1::TokenLogprob* to) {
  to->set_token_id(static_cast<uint32_t>(from.token));
  to->set_logprob(from.logprob);
  to->set_rank(static_cast<uint32_t>(from.rank));
  to->set_token_bytes(codec.TokenBytes(from.token));
}

void Fill(const TokenLogprobs& from, const TextCodec& codec, v1::TokenLogprobs* to) {
  Fill(from.chosen, codec, to->mutable_chosen());
  for (const TokenLogprob& entry : from.top) Fill(entry, codec, to->add_top());
}

v1::GenerateResponse FinishedMessage(const GenerationEnd& end) {
  v1::GenerateResponse message;
  v1::Finished* finished = message.mutable_finished();
  finished->set_reason(end.reason == FinishReason::kLength ? v1::FINISH_REASON_LENGTH
                                                           : v1::FINISH_REASON_STOP);
  if (end.stop_string) {
    finished->set_stop_string(*end.stop_string);
  } else if (end.stop_token) {
    finished->set_stop_token_id(static_cast<uint32_t>(*end.stop_token));
  }
  finished->set_text(end.text);
  finished->mutable_usage()->set_prompt_tokens(static_cast<uint32_t>(end.prompt_tokens));
  finished->mutable_usage()->set_completion_tokens(static_cast<uint32_t>(end.completion_tokens));
  return message;
}

}  // namespace

ParsedRequest ParseGenerateRequest(const v1::GenerateRequest& message) {
  ParsedRequest request;
  Read(message.has_request_id(), message.request_id(), request.request_id);
  Read(message.has_model(), message.model(), request.model);
  Read(message.has_add_special_tokens(), message.add_special_tokens(), request.add_special_tokens);
  switch (message.input_case()) {
    case v1::GenerateRequest::kText:
      request.prompts.emplace_back(message.text());
      break;
    case v1::GenerateRequest::kTokenIds: {
      const auto& ids = message.token_ids().ids();
      request.prompts.emplace_back(std::vector<int64_t>(ids.begin(), ids.end()));
      break;
    }
    case v1::GenerateRequest::kChat:
      request.chat = ParseChat(message.chat());
      break;
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  ReadSampling(message.sampling(), request);
  ReadStop(message.stop(), request);
  const v1::OutputOptions& output = message.output();
  Read(output.has_logprobs(), output.logprobs(), request.logprobs);
  Read(output.has_prompt_logprobs(), output.prompt_logprobs(), request.prompt_logprobs);
  request.skip_special_tokens = !output.has_skip_special_tokens() || output.skip_special_tokens();
  return request;
}

ParsedRequest ParseTokenizeRequest(const v1::TokenizeRequest& message) {
  ParsedRequest request;
  Read(message.has_model(), message.model(), request.model);
  Read(message.has_add_special_tokens(), message.add_special_tokens(), request.add_special_tokens);
  if (message.has_chat()) {
    request.chat = ParseChat(message.chat());
  } else if (message.input_case() == v1::TokenizeRequest::kText) {
    request.prompts.emplace_back(message.text());
  }
  return request;
}

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

void AppendMessages(std::vector<ChoiceEvent> events, const TextCodec& codec,
                    std::vector<v1::GenerateResponse>& messages) {
  v1::TokenDelta* delta = nullptr;
  const auto open_delta = [&] {
    if (delta == nullptr) delta = messages.emplace_back().mutable_delta();
    return delta;
  };
  for (ChoiceEvent& event : events) {
    if (const auto* prompt = std::get_if<PromptLogprobs>(&event.what)) {
      for (const auto& entry : *prompt) {
        v1::TokenLogprobs* to = open_delta()->add_prompt_logprobs();
        if (entry) Fill(*entry, codec, to);
      }
      delta = nullptr;
    } else if (const auto* token = std::get_if<TokenEvent>(&event.what)) {
      open_delta()->add_token_ids(static_cast<uint32_t>(token->token));
      *delta->mutable_text() += token->text;
      if (token->logprobs) Fill(*token->logprobs, codec, delta->add_logprobs());
    } else {
      messages.push_back(FinishedMessage(std::get<GenerationEnd>(event.what)));
      delta = nullptr;
    }
  }
}

}  // namespace sheaf

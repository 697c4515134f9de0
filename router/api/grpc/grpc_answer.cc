#include "router/api/grpc/grpc_answer.h"

#include "router/api/grpc/grpc_delta_writer.h"

namespace sheaf {
namespace {

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

void GrpcAnswer::Append(std::vector<ChoiceEvent> events,
                        std::vector<v1::GenerateResponse>& messages) {
  DeltaWriter writer(codec_, messages);
  for (const ChoiceEvent& event : events) {
    if (const auto* prompt = std::get_if<PromptLogprobs>(&event.what)) {
      writer.AddPromptLogprobs(*prompt);
    } else if (const auto* token = std::get_if<TokenEvent>(&event.what)) {
      writer.AddToken(*token, DeltaWriter::Kind::kText);
      writer.AddText(token->text);
    } else {
      messages.push_back(FinishedMessage(std::get<GenerationEnd>(event.what)));
    }
  }
}

}  // namespace sheaf

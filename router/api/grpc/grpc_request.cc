#include "router/api/grpc/grpc_request.h"

#include <utility>

#include "router/api/grpc/grpc_chat.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

// An absent scalar stays absent.
template <typename To, typename From>
void Read(bool has, From value, std::optional<To>& to) {
  if (has) to = static_cast<To>(value);
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
  request.bad_words.assign(sampling.bad_words().begin(), sampling.bad_words().end());
}

void ReadStop(const v1::StopOptions& stop, ParsedRequest& request) {
  Read(stop.has_max_tokens(), stop.max_tokens(), request.max_tokens);
  Read(stop.has_min_tokens(), stop.min_tokens(), request.min_tokens);
  request.stop.assign(stop.stop().begin(), stop.stop().end());
  request.stop_token_ids.assign(stop.stop_token_ids().begin(), stop.stop_token_ids().end());
  request.ignore_eos = stop.ignore_eos();
  request.include_stop_string = stop.include_stop_string();
}

// Whether the grammar can be compiled is for the validation to say.
AnswerConstraint ParseConstraint(const v1::OutputConstraint& message,
                                 std::vector<FieldViolation>& violations) {
  AnswerConstraint constraint;
  constraint.field = "constraint";
  GrammarSpec& grammar = constraint.grammar;
  Read(message.has_any_whitespace(), message.any_whitespace(), constraint.any_whitespace);
  switch (message.kind_case()) {
    case v1::OutputConstraint::kJsonSchema:
      grammar.kind = GrammarKind::kJsonSchema;
      grammar.text = message.json_schema();
      break;
    case v1::OutputConstraint::kJsonObject:
      grammar.kind = GrammarKind::kJsonObject;
      if (!message.json_object()) violations.push_back({"constraint.json_object", "must be true"});
      break;
    case v1::OutputConstraint::kRegex:
      grammar.kind = GrammarKind::kRegex;
      grammar.text = message.regex();
      break;
    case v1::OutputConstraint::kChoice:
      grammar.kind = GrammarKind::kChoice;
      grammar.text = JsonText(Json(std::vector<std::string>(message.choice().texts().begin(),
                                                            message.choice().texts().end())));
      break;
    case v1::OutputConstraint::kLark:
      grammar.kind = GrammarKind::kLark;
      grammar.text = message.lark();
      break;
    case v1::OutputConstraint::kStructuralTagJson:
      grammar.kind = GrammarKind::kStructuralTag;
      grammar.text = message.structural_tag_json();
      break;
    case v1::OutputConstraint::KIND_NOT_SET:
      violations.push_back({"constraint", "has no kind that this server knows"});
      break;
  }
  return constraint;
}

}  // namespace

ApiResult<ParsedRequest> ParseGenerateRequest(const v1::GenerateRequest& message,
                                              size_t max_content_bytes) {
  ParsedRequest request;
  std::vector<FieldViolation> violations;
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
      request.chat = ParseChat(message.chat(), max_content_bytes, violations);
      break;
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  ReadSampling(message.sampling(), request);
  ReadStop(message.stop(), request);
  Read(message.has_priority(), message.priority(), request.priority);
  Read(message.has_cache_salt(), message.cache_salt(), request.cache_salt);
  request.prior_output.assign(message.prior_output().begin(), message.prior_output().end());
  const v1::OutputOptions& output = message.output();
  Read(output.has_logprobs(), output.logprobs(), request.logprobs);
  Read(output.has_prompt_logprobs(), output.prompt_logprobs(), request.prompt_logprobs);
  request.skip_special_tokens = !output.has_skip_special_tokens() || output.skip_special_tokens();
  if (request.chat && output.has_include_reasoning()) {
    request.chat->include_reasoning = output.include_reasoning();
  }
  if (message.has_constraint()) {
    request.constraint = ParseConstraint(message.constraint(), violations);
  }
  if (!violations.empty()) return InvalidFields(std::move(violations));
  return request;
}

ApiResult<ParsedRequest> ParseTokenizeRequest(const v1::TokenizeRequest& message,
                                              size_t max_content_bytes) {
  ParsedRequest request;
  std::vector<FieldViolation> violations;
  Read(message.has_model(), message.model(), request.model);
  Read(message.has_add_special_tokens(), message.add_special_tokens(), request.add_special_tokens);
  if (message.has_chat()) {
    request.chat = ParseChat(message.chat(), max_content_bytes, violations);
  } else if (message.input_case() == v1::TokenizeRequest::kText) {
    request.prompts.emplace_back(message.text());
  }
  if (!violations.empty()) return InvalidFields(std::move(violations));
  return request;
}

}  // namespace sheaf

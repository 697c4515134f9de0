#include "router/api/openai/openai_request.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/numbers.h"
#include "router/api/openai/chat_fields.h"
#include "router/api/openai/constraint_fields.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

// Fields that both endpoints read, and those without meaning here that clients send by default.
constexpr std::array kSharedFields = {"model",
                                      "temperature",
                                      "top_p",
                                      "min_p",
                                      "top_k",
                                      "repetition_penalty",
                                      "frequency_penalty",
                                      "presence_penalty",
                                      "seed",
                                      "logit_bias",
                                      "allowed_token_ids",
                                      "bad_words",
                                      "n",
                                      "max_tokens",
                                      "min_tokens",
                                      "stop",
                                      "stop_token_ids",
                                      "ignore_eos",
                                      "include_stop_str_in_output",
                                      "skip_special_tokens",
                                      "add_special_tokens",
                                      "logprobs",
                                      "prompt_logprobs",
                                      "prior_output",
                                      "priority",
                                      "cache_salt",
                                      "request_id",
                                      "stream",
                                      "stream_options",
                                      "return_token_ids",
                                      "return_tokens_as_token_ids",
                                      "echo",
                                      "user",
                                      "truncate_prompt_tokens",
                                      "use_beam_search",
                                      "length_penalty",
                                      "response_format",
                                      "structured_outputs",
                                      "guided_json",
                                      "guided_regex",
                                      "guided_choice",
                                      "guided_grammar",
                                      "guided_whitespace_pattern",
                                      "guided_decoding_backend"};
constexpr std::array kCompletionFields = {"prompt", "prompt_embeds", "suffix", "best_of"};
constexpr std::array kChatFields = {"messages",
                                    "chat_template_kwargs",
                                    "add_generation_prompt",
                                    "max_completion_tokens",
                                    "top_logprobs",
                                    "tools",
                                    "tool_choice",
                                    "functions",
                                    "function_call",
                                    "parallel_tool_calls",
                                    "enable_thinking",
                                    "thinking",
                                    "reasoning_effort",
                                    "thinking_token_budget",
                                    "include_reasoning",
                                    "chat_template",
                                    "documents",
                                    "continue_final_message",
                                    "modalities",
                                    "store",
                                    "metadata",
                                    "service_tier",
                                    "safety_identifier",
                                    "prompt_cache_key",
                                    "verbosity"};

template <size_t N>
void NoteUnknown(const Json& body, const std::array<const char*, N>& own,
                 std::vector<std::string>& unknown) {
  for (const auto& [name, value] : body.items()) {
    const auto is_name = [&key = name](const char* known) { return key == known; };
    if (std::none_of(kSharedFields.begin(), kSharedFields.end(), is_name) &&
        std::none_of(own.begin(), own.end(), is_name)) {
      unknown.push_back(name.substr(0, 64));
    }
  }
}

void ReadLogitBias(JsonFields& fields, ParsedRequest& request) {
  const Json* bias = fields.Find("logit_bias");
  if (bias == nullptr) return;
  if (!bias->is_object()) {
    fields.WrongType("logit_bias", "an object of token id to number", *bias);
    return;
  }
  for (const auto& [key, value] : bias->items()) {
    int64_t id = 0;
    const auto number = AsNumber(value);
    if (!absl::SimpleAtoi(key, &id) || !number) {
      fields.Fail("logit_bias",
                  "must be an object of token id to number, got \"" + key.substr(0, 40) + "\"");
      return;
    }
    request.logit_bias.emplace_back(id, *number);
  }
}

void ReadShared(JsonFields& fields, std::vector<FieldViolation>& violations,
                OpenAiRequest& parsed) {
  ParsedRequest& request = parsed.request;
  request.model = fields.String("model");
  request.request_id = fields.String("request_id");
  request.temperature = fields.Number("temperature");
  request.top_p = fields.Number("top_p");
  request.min_p = fields.Number("min_p");
  request.top_k = fields.Integer("top_k");
  request.repetition_penalty = fields.Number("repetition_penalty");
  request.frequency_penalty = fields.Number("frequency_penalty");
  request.presence_penalty = fields.Number("presence_penalty");
  // -1 is "no seed" for the clients of several servers.
  if (const auto seed = fields.Integer("seed"); seed && *seed != -1) {
    request.seed = static_cast<uint64_t>(*seed);
  }
  ReadLogitBias(fields, request);
  request.allowed_token_ids = fields.Integers("allowed_token_ids");
  request.bad_words = fields.Strings("bad_words");
  ReadConstraint(fields, violations, request);
  request.n = fields.Integer("n");
  request.max_tokens = fields.Integer("max_tokens");
  request.min_tokens = fields.Integer("min_tokens");
  request.stop = fields.Strings("stop");
  request.stop_token_ids = fields.Integers("stop_token_ids");
  request.ignore_eos = fields.Bool("ignore_eos").value_or(false);
  request.include_stop_string = fields.Bool("include_stop_str_in_output").value_or(false);
  request.skip_special_tokens = fields.Bool("skip_special_tokens").value_or(true);
  request.add_special_tokens = fields.Bool("add_special_tokens");
  request.truncate_prompt_tokens = fields.Integer("truncate_prompt_tokens");
  if (fields.Bool("use_beam_search").value_or(false)) {
    fields.Fail("use_beam_search", "is not supported");
  }
  request.priority = fields.Integer("priority");
  request.cache_salt = fields.String("cache_salt");
  request.prior_output = fields.Integers("prior_output");
  request.prompt_logprobs = fields.Integer("prompt_logprobs");
  parsed.show_prompt_logprobs = request.prompt_logprobs.has_value();
  parsed.stream = fields.Bool("stream").value_or(false);
  parsed.return_token_ids = fields.Bool("return_token_ids").value_or(false);
  parsed.return_tokens_as_token_ids = fields.Bool("return_tokens_as_token_ids").value_or(false);
}

void ReadStreamOptions(JsonFields& fields, std::vector<FieldViolation>& violations,
                       OpenAiRequest& parsed) {
  if (parsed.stream && parsed.request.prompt_logprobs) {
    fields.Fail("prompt_logprobs", "are not available with stream = true");
  }
  const Json* options = fields.Find("stream_options");
  if (options == nullptr) return;
  if (!options->is_object()) {
    fields.WrongType("stream_options", "an object", *options);
    return;
  }
  JsonFields option_fields(*options, violations);
  parsed.include_usage = option_fields.Bool("include_usage").value_or(false);
  parsed.continuous_usage_stats =
      option_fields.Bool("continuous_usage_stats").value_or(false) && parsed.include_usage;
}

void ReadPrompt(JsonFields& fields, ParsedRequest& request) {
  constexpr const char* kWanted =
      "a text, a list of texts, a list of token ids or a list of such lists";
  const Json* prompt = fields.Find("prompt");
  if (prompt == nullptr) return;
  if (prompt->is_string()) {
    request.prompts.emplace_back(prompt->get<std::string>());
    return;
  }
  if (!prompt->is_array()) {
    fields.WrongType("prompt", kWanted, *prompt);
    return;
  }
  if (prompt->empty()) {
    request.prompts.emplace_back(std::string());  // validation calls it empty
    return;
  }
  const auto read_ids = [&](const Json& list, const std::string& field) {
    std::vector<int64_t> ids;
    ids.reserve(list.size());
    for (const Json& item : list) {
      const auto id = AsInteger(item);
      if (!id) {
        fields.WrongType(field, kWanted, item);
        return;
      }
      ids.push_back(*id);
    }
    request.prompts.emplace_back(std::move(ids));
  };
  if (prompt->front().is_number()) {
    read_ids(*prompt, "prompt");
    return;
  }
  for (size_t i = 0; i < prompt->size(); ++i) {
    const Json& item = (*prompt)[i];
    const std::string field = "prompt[" + std::to_string(i) + "]";
    if (item.is_string()) {
      request.prompts.emplace_back(item.get<std::string>());
    } else if (item.is_array()) {
      read_ids(item, field);
    } else {
      fields.WrongType(field, kWanted, item);
      return;
    }
  }
}

// What asks for more than text.
void RefuseUnsupported(JsonFields& fields) {
  const Json* modalities = fields.Find("modalities");
  if (modalities != nullptr && *modalities != Json::array({"text"})) {
    fields.Fail("modalities", "only [\"text\"] is supported");
  }
}

}  // namespace

ApiResult<OpenAiRequest> ParseCompletionBody(std::string_view body) {
  auto json = ParseRequestJson(body);
  if (auto* error = std::get_if<ApiError>(&json)) return std::move(*error);
  const Json& object = std::get<Json>(json);
  std::vector<FieldViolation> violations;
  JsonFields fields(object, violations);
  OpenAiRequest parsed;
  ReadShared(fields, violations, parsed);
  ReadStreamOptions(fields, violations, parsed);
  ReadPrompt(fields, parsed.request);
  parsed.request.logprobs = fields.Integer("logprobs");
  parsed.request.echo = fields.Bool("echo").value_or(false);
  // What echo shows of the prompt has log-probabilities too.
  if (parsed.request.echo && parsed.request.logprobs && !parsed.request.prompt_logprobs) {
    parsed.request.prompt_logprobs = parsed.request.logprobs;
  }
  if (const Json* suffix = fields.Find("suffix"); suffix != nullptr && *suffix != "") {
    fields.Fail("suffix", "is not supported");
  }
  if (const Json* embeds = fields.Find("prompt_embeds"); embeds != nullptr && !embeds->empty()) {
    fields.Fail("prompt_embeds", "are not supported");
  }
  const auto best_of = fields.Integer("best_of");
  if (best_of && *best_of != parsed.request.n.value_or(1)) fields.Fail("best_of", "must equal n");
  NoteUnknown(object, kCompletionFields, parsed.unknown_fields);
  if (!violations.empty()) return InvalidFields(std::move(violations));
  return parsed;
}

ApiResult<OpenAiRequest> ParseChatBody(std::string_view body) {
  auto json = ParseRequestJson(body);
  if (auto* error = std::get_if<ApiError>(&json)) return std::move(*error);
  const Json& object = std::get<Json>(json);
  std::vector<FieldViolation> violations;
  JsonFields fields(object, violations);
  OpenAiRequest parsed;
  ReadShared(fields, violations, parsed);
  ReadStreamOptions(fields, violations, parsed);
  ReadChat(fields, parsed.request);
  if (const auto tokens = fields.Integer("max_completion_tokens"))
    parsed.request.max_tokens = tokens;
  const bool logprobs = fields.Bool("logprobs").value_or(false);
  const auto top_logprobs = fields.Integer("top_logprobs");
  if (logprobs) {
    parsed.request.logprobs = top_logprobs.value_or(0);
  } else if (top_logprobs && *top_logprobs != 0) {
    fields.Fail("top_logprobs", "needs logprobs = true");
  }
  if (fields.Bool("echo").value_or(false)) {
    fields.Fail("echo",
                "is not supported for chats; continue_final_message goes on with a message");
  }
  RefuseUnsupported(fields);
  NoteUnknown(object, kChatFields, parsed.unknown_fields);
  if (!violations.empty()) return InvalidFields(std::move(violations));
  return parsed;
}

ApiResult<TokenizeBody> ParseTokenizeBody(std::string_view body) {
  auto json = ParseRequestJson(body);
  if (auto* error = std::get_if<ApiError>(&json)) return std::move(*error);
  std::vector<FieldViolation> violations;
  JsonFields fields(std::get<Json>(json), violations);
  TokenizeBody parsed;
  parsed.request.model = fields.String("model");
  parsed.request.add_special_tokens = fields.Bool("add_special_tokens");
  parsed.return_token_strs = fields.Bool("return_token_strs").value_or(false);
  if (fields.Find("messages") != nullptr) {
    ReadChat(fields, parsed.request);
  } else if (auto prompt = fields.String("prompt")) {
    parsed.request.prompts.emplace_back(*std::move(prompt));
  } else if (violations.empty()) {
    fields.Fail("prompt", "prompt or messages is required");
  }
  if (!violations.empty()) return InvalidFields(std::move(violations));
  return parsed;
}

ApiResult<DetokenizeBody> ParseDetokenizeBody(std::string_view body) {
  auto json = ParseRequestJson(body);
  if (auto* error = std::get_if<ApiError>(&json)) return std::move(*error);
  std::vector<FieldViolation> violations;
  JsonFields fields(std::get<Json>(json), violations);
  DetokenizeBody parsed;
  parsed.model = fields.String("model");
  if (fields.Find("tokens") == nullptr) fields.Fail("tokens", "is required");
  parsed.tokens = fields.Integers("tokens");
  if (!violations.empty()) return InvalidFields(std::move(violations));
  return parsed;
}

}  // namespace sheaf
